"""Makes the fixtures of crates/metrics: scores by scikit-learn, temperature by SciPy, events by TensorBoard's own writer.

    python -m venv venv && venv/bin/pip install scikit-learn==1.9.1 scipy==1.17.1 tensorboard==2.21.0
    venv/bin/python scripts/metrics_fixtures.py            # writes crates/metrics/tests/fixtures/
    venv/bin/python scripts/metrics_fixtures.py FOLDER     # prints what TensorBoard reads from the events in FOLDER
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
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


def calibration_scores(probabilities, labels):
    """NLL and Brier score by scikit-learn; the calibration error by its definition (Guo et al., 2017)."""
    classes = range(probabilities.shape[1])
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    error = 0.0
    for index in range(15):
        inside = (confidence > index / 15) & (confidence <= (index + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - (predicted == labels)[inside].mean())
    return [
        float(error),
        float(metrics.log_loss(labels, probabilities, labels=list(classes))),
        float(metrics.brier_score_loss(labels, probabilities, labels=list(classes), scale_by_half=False)),
    ]


def calibration_case(name, seed, sureness):
    """Logits that are right more often than not, times how sure the model is of itself."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, 60)
    logits = random.normal(size=(60, 4)) + 1.5 * np.eye(4)[labels]
    probabilities = softmax(sureness * logits).astype(np.float32).astype(np.float64)
    logarithms = np.log(probabilities)

    def loss(log_temperature):
        tempered = softmax(logarithms / np.exp(log_temperature))
        return -np.log(tempered[np.arange(60), labels]).mean()

    best = minimize_scalar(loss, bounds=(-4.6, 4.6), method="bounded", options={"xatol": 1e-10})
    temperature = float(np.exp(best.x))
    return {
        "name": name,
        "probabilities": probabilities.astype(np.float32).tolist(),
        "labels": labels.tolist(),
        "temperature": temperature,
        "before": calibration_scores(probabilities / probabilities.sum(axis=1, keepdims=True), labels),
        "after": calibration_scores(softmax(logarithms / temperature), labels),
    }


def write_calibration():
    cases = [calibration_case("too sure", 11, 3.0), calibration_case("not sure enough", 12, 0.3)]
    (FIXTURES / "calibration.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


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
        write_calibration()
        write_events()
