"""Train a small language model from scratch, in a loop that can be read in a sitting.

Read in this order: `corpus` (a folder of text becomes one stream of tokens and some held-out
files), `settings` (every number that a run depends on), `build` (the model and
its optimizers), `train` (the loop), `state` (what is saved so
that a killed run goes on exactly), `ngram` (counting instead of learning: the model to beat).

`shrinkkit train-lm FOLDER` is this package from the shell; `tools/make_storybook.py` is how the
course's own models were made with it.
"""

from shrinkkit.train.lm.corpus import Corpus, Document, read_corpus, train_tokenizer, unwrap
from shrinkkit.train.lm.ngram import KneserNey
from shrinkkit.train.lm.settings import PRESETS, Settings
from shrinkkit.train.lm.speed import training_speed
from shrinkkit.train.lm.train import Run, train_lm
