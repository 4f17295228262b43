"""Lesson 01's room: what models cost as sums, published figures, charts and widgets, and judges."""

from shrinkkit.lessons.frontier.claims import as_interval, judge
from shrinkkit.lessons.frontier.drivers import draw_fit, draw_load, draw_serve, draw_speed
from shrinkkit.lessons.frontier.history import draw_growth, draw_kept, draw_records
from shrinkkit.lessons.frontier.published import (
    gpt3_class,
    left_out,
    load_carbon,
    load_devices,
    load_distilbert_glue,
    load_models,
    load_training_runs,
    record_holders,
)
from shrinkkit.lessons.frontier.sums import (
    answer_s,
    co2_kg,
    decode_tokens_per_s,
    fits,
    memory_to_load_bytes,
    memory_to_serve_bytes,
    training_dollars,
    training_flops,
    training_gpu_hours,
    training_kwh,
    users_that_fit,
)
from shrinkkit.lessons.frontier.training import draw_training
from shrinkkit.lessons.frontier.widgets import (
    FIT_MODELS,
    fit_widget,
    load_widget,
    serve_widget,
    training_widget,
)
from shrinkkit.measure.kv import kv_cache_bytes_per_token
