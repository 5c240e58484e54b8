"""Facts about the sets of tokens: texts, and pairs of texts."""

from __future__ import annotations

from trainoff.datamodules.facts.entry import DataModuleEntry

TEXT = DataModuleEntry(
    name="text",
    target="trainoff.datamodules.text:Text",
    summary="any text file by path, or generated sentences of known entropy (no download)",
    paper="Shannon 1948, A mathematical theory of communication (a source as in section 2 writes it)",
    num_samples=3124,
    input_shape=(128,),
    licence="none needed: generated",
    size_bytes=400_000,
    goal="language modelling",
)
PAIRS = DataModuleEntry(
    name="pairs",
    target="trainoff.datamodules.synthetic_pairs:SyntheticPairs",
    summary="pairs of strings: reverse, sort, or dates in five forms (generated, no download)",
    paper="none needed: generated",
    num_samples=10_000,
    input_shape=(12,),
    licence="none needed: generated",
    size_bytes=162_000,
    goal="sequence to sequence",
)
HUB_TEXT = DataModuleEntry(
    name="hub_text",
    target="trainoff.datamodules.hub_text:HubText",
    summary="any text set of the hub by its name",
    licence="that of the set",
    goal="language modelling",
)
WIKITEXT2 = DataModuleEntry(
    name="wikitext2",
    target="trainoff.datamodules.hub_text:WikiText2",
    summary="WikiText-2, raw: articles of Wikipedia (the hub, or text files)",
    paper="Merity, Xiong, Bradbury and Socher 2017, Pointer Sentinel Mixture Models, arXiv:1609.07843",
    num_samples=44_836,
    input_shape=(128,),
    licence="CC BY-SA 3.0 and GFDL",
    size_bytes=7_747_362,
    goal="language modelling",
)
TINY_SHAKESPEARE = DataModuleEntry(
    name="tiny_shakespeare",
    target="trainoff.datamodules.hub_text:TinyShakespeare",
    summary="40,000 lines of Shakespeare's plays, 1.1 million characters (the hub, or text files)",
    paper="Karpathy 2015, The unreasonable effectiveness of recurrent neural networks",
    num_samples=40_000,
    input_shape=(128,),
    licence="none stated; the plays are in the public domain",
    size_bytes=1_115_394,
    goal="language modelling",
)
PAIRS_FILE = DataModuleEntry(
    name="pairs_file",
    target="trainoff.datamodules.pairs_files:PairsFile",
    summary="your own pairs: a source, a tab and a target on each line of a file",
    licence="that of your file",
    goal="sequence to sequence",
)
HUB_TRANSLATION = DataModuleEntry(
    name="hub_translation",
    target="trainoff.datamodules.pairs_files:HubTranslation",
    summary="any translation set of the hub by its name",
    licence="that of the set",
    goal="sequence to sequence",
)
MELODIES = DataModuleEntry(
    name="melodies",
    target="trainoff.datamodules.melodies:Melodies",
    summary="generated melodies over chords, of known entropy (no download)",
    paper="Shannon 1948, A mathematical theory of communication (a source as in section 2 writes them)",
    num_samples=1000,
    input_shape=(64,),
    licence="none needed: generated",
    size_bytes=400_000,
    goal="language modelling",
)
