"""Makes the fixtures of crates/metrics: scores by scikit-learn, events by TensorBoard's own writer.

    python -m venv venv && venv/bin/pip install scikit-learn==1.9.1 tensorboard==2.21.0
    venv/bin/python scripts/metrics_fixtures.py            # writes crates/metrics/tests/fixtures/
    venv/bin/python scripts/metrics_fixtures.py FOLDER     # prints what TensorBoard reads from the events in FOLDER
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
from sklearn import metrics
from sklearn.utils.extmath import softmax

FIXTURES = Path(__file__).parent.parent / "crates/metrics/tests/fixtures"


def score_case(name, num_classes, labels, predicted):
    """What scikit-learn says of one set of predictions."""
    classes = list(range(num_classes))
    each = metrics.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    averages = {
        average: metrics.precision_recall_fscore_support(labels, predicted, average=average, zero_division=0)[:3]
        for average in ("macro", "weighted")
    }
    return {
        "name": name,
        "num_classes": num_classes,
        "labels": [int(label) for label in labels],
        "predicted": [int(label) for label in predicted],
        "counts": metrics.confusion_matrix(labels, predicted, labels=classes).astype(int).tolist(),
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "precision": each[0].tolist(),
        "recall": each[1].tolist(),
        "f1": each[2].tolist(),
        "support": each[3].astype(int).tolist(),
        "macro": [float(score) for score in averages["macro"]],
        "weighted": [float(score) for score in averages["weighted"]],
    }


def score_cases():
    random = np.random.default_rng(7)
    labels = random.integers(0, 5, 60)
    noisy = np.where(random.random(60) < 0.3, random.integers(0, 5, 60), labels)
    rare = np.array([0] * 30 + [1] * 3 + [2])
    rare_predicted = np.where(random.random(34) < 0.2, random.integers(0, 3, 34), rare)
    return [
        score_case("five classes, some mistakes", 5, labels, noisy),
        score_case("rare classes", 3, rare, rare_predicted),
        score_case("a class that never occurs", 6, labels, noisy),
        score_case("a class never predicted", 3, [0, 1, 2, 2], [0, 1, 1, 0]),
        score_case("a class predicted but never a label", 4, [0, 1, 1], [0, 1, 3]),
        score_case("all right", 3, [0, 1, 2], [0, 1, 2]),
        score_case("all wrong", 2, [0, 1, 1], [1, 0, 0]),
        score_case("one sample", 3, [1], [1]),
    ]


def top_k_case():
    """Scores without ties: scikit-learn gives those to the higher index, the crate to the lower."""
    random = np.random.default_rng(9)
    scores = random.normal(size=(24, 6)).round(3).astype(np.float32)
    assert all(len(set(row)) == 6 for row in scores.tolist())
    labels = random.integers(0, 6, 24)
    return {
        "scores": [[round(float(score), 3) for score in row] for row in scores],
        "labels": labels.tolist(),
        "top_k": [float(metrics.top_k_accuracy_score(labels, scores, k=k, labels=range(6))) for k in range(1, 6)],
        "softmax": [[round(float(p), 9) for p in row] for row in softmax(scores.astype(np.float64))[:4]],
    }


def write_scores():
    cases = ",\n".join(json.dumps(case) for case in score_cases())
    (FIXTURES / "scores.json").write_text(f'{{"cases": [\n{cases}\n],\n"ranking": {json.dumps(top_k_case())}}}\n')


def write_events():
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    def scalars(**numbers):
        return Summary(value=[Summary.Value(tag=tag, simple_value=number) for tag, number in numbers.items()])

    all_scalars = {"loss/train": 1.25, "learning_rate": 1e-3, "accuracy/validation": 0.0}
    events = [
        Event(wall_time=1.7e9, file_version="brain.Event:2"),
        Event(wall_time=1.7e9, summary=scalars(**{"loss/train": 1.25})),
        Event(wall_time=1.7e9 + 0.5, step=25, summary=scalars(**all_scalars)),
        Event(wall_time=1.7e9 + 1, step=26, session_log=SessionLog(status=SessionLog.START)),
        Event(wall_time=1.7e9 + 2, step=70_000, summary=scalars(**{"größe/μ": math.nan})),
    ]
    with open(FIXTURES / "golden.tfevents", "wb") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())


def print_events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    for tag in sorted(accumulator.Tags()["scalars"]):
        print(tag, [(event.step, event.value) for event in accumulator.Scalars(tag)])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print_events(sys.argv[1])
    else:
        FIXTURES.mkdir(parents=True, exist_ok=True)
        write_scores()
        write_events()
