"""Measure models: quality, size, speed, memory and energy, and the score card that joins them.

A compressed model is a claim ("a quarter of the size, nearly as good, twice as fast") and this
package is how the claim is checked, always with the reference beside it, and always the same way.
"""

from shrinkkit.measure.bandwidth import bytes_per_token, decode_bound, memory_bandwidth
from shrinkkit.measure.bits import bits_per_byte, token_bits
from shrinkkit.measure.card import ScoreCard
from shrinkkit.measure.energy import Energy, measure_energy
from shrinkkit.measure.kv import (
    cache_bytes,
    cache_bytes_at,
    cached_losses,
    cached_perplexity,
    kv_cache_bytes_per_token,
)
from shrinkkit.measure.kv_shapes import Kept, kv_shape, kv_shapes
from shrinkkit.measure.memory import PeakMemory, peak_rss
from shrinkkit.measure.paired import (
    Interval,
    McNemar,
    difference,
    lead,
    mcnemar,
    paired_interval,
    share,
    times,
)
from shrinkkit.measure.quality import (
    Agreement,
    TokenScores,
    kl_nats,
    next_token_agreement,
    perplexity,
    token_scores,
)
from shrinkkit.measure.results import load_results, machine, record
from shrinkkit.measure.scoring import scorecard
from shrinkkit.measure.size import (
    bits_per_weight,
    file_bytes,
    n_parameters,
    resident_bytes,
    saved_bytes,
)
from shrinkkit.measure.speed import (
    DecodeSpeed,
    PrefillSpeed,
    decode_speed_paired,
    encoder_latency,
    prefill_speed_paired,
)
from shrinkkit.measure.tasks.analogies import Accuracy, analogy_accuracy, wilson_interval
from shrinkkit.measure.tasks.encoders import (
    ClassificationScore,
    RetrievalScore,
    classification_score,
    encode,
    label_scores,
    ranking_scores,
    retrieval_scores,
)
from shrinkkit.measure.tasks.last_words import LastWordScore, last_word_scores
from shrinkkit.measure.tasks.rivals import WordVectors, tfidf_classification, tfidf_retrieval
from shrinkkit.measure.tasks.zero_shot import zero_shot_score
from shrinkkit.measure.timing import Rate, Timing, speedup, time_call, time_paired
