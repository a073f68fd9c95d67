"Everything a notebook wants: fastai's names for text, and this library's"
from fastai.text.all import *

from imdb_lm.data import untar_imdb, untar_wt103, review_files
from imdb_lm.mini import mini_reviews
from imdb_lm.tokens import tokenize
from imdb_lm.loader import lm_dblock, lm_dls, dls_summary, held_out_texts
from imdb_lm.model import LanguageModel, load_lm
from imdb_lm.classifier import Classifier, load_clas
from imdb_lm.card import write_card
from imdb_lm.generate import detokenize
from imdb_lm.pretrained import convert_pair
from imdb_lm.learner import SIZES, lm_learner, language_model, save_lm
from imdb_lm.memory import largest_bs, split_batches
from imdb_lm.training import StopOnNaN # and, by its import, learn.fit_two_stage
from imdb_lm.scratch import scratch_learner # and learn.fit_one_stage
from imdb_lm.evaluate import evaluate_lm
from imdb_lm.classify import clas_dls, clas_learner, save_clas # and learn.fit_gradual
from imdb_lm.picture import show_surprisal
