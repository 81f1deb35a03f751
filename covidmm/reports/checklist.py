"""Checklists of a model card: items that the known facts answer, and items that stay open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: The 42 items of CLAIM (Mongan, Moy and Kahn, Radiology: Artificial Intelligence 2020), paraphrased: item, and the
#: fact that answers it, if any can.
CLAIM = (
    ("Title names the kind of AI", "model"),
    ("Structured summary", None),
    ("Background, intended use, clinical role", "intended"),
    ("Objectives and hypotheses", None),
    ("Prospective or retrospective", "retrospective"),
    ("Goal of the study", "task"),
    ("Sources of the data", "sources"),
    ("Who or what was eligible", None),
    ("Preprocessing", "preprocessing"),
    ("Choice of subsets of the data", None),
    ("Definition of the data elements", "labels"),
    ("De-identification", None),
    ("Missing data", None),
    ("Reference standard: definition", "labels"),
    ("Reference standard: reasons for it", None),
    ("Reference standard: who annotated", None),
    ("Annotation tools", None),
    ("Variability between and within annotators", None),
    ("Sample size and how it was chosen", None),
    ("Partitions of the data and their proportions", "splits"),
    ("Level at which partitions are disjoint", "disjoint"),
    ("Model: inputs, outputs, layers", "model"),
    ("Software, with versions", "software"),
    ("Initialization of the parameters", "initialization"),
    ("Training: augmentation, hyperparameters, how many models", "training"),
    ("How the final model was chosen", "selection"),
    ("Ensembling", None),
    ("Metrics of performance", "metrics"),
    ("Uncertainty of the metrics", "uncertainty"),
    ("Robustness and sensitivity", None),
    ("Explainability", None),
    ("Validation on external data", None),
    ("Flow of participants or cases", None),
    ("Demographic and clinical characteristics by partition", "demographics"),
    ("Performance on every partition", "validation"),
    ("Diagnostic accuracy and its precision", "performance"),
    ("Analysis of failures", None),
    ("Limitations", "limits"),
    ("Implications for practice", None),
    ("Registration", None),
    ("Where the full protocol is", "protocol"),
    ("Funding", None),
)
#: What Roberts et al. (Nature Machine Intelligence 2021) found missing in models for COVID-19 imaging, paraphrased.
ROBERTS = (
    ("Origin of the data known; no set is a mixture that contains another one", None),
    ("Patients of one partition only; duplicates kept on one side", "disjoint"),
    ("Classes do not come from different sources, ages or views", None),
    ("Enough data, and demographics of every partition stated", "demographics"),
    ("Preprocessing, hyperparameters and training described well enough to repeat them", "training"),
    ("Choice of model and threshold on validation data, not on the test", "selection"),
    ("Performance with confidence intervals", "performance"),
    ("Calibration reported", "calibration"),
    ("External validation", None),
    ("Code and seed available", "protocol"),
    ("Assessed for risk of bias (PROBAST) and by clinicians", None),
)


@dataclass(frozen=True)
class Item:
    """One item; ``answer`` is None where it is open."""

    number: int
    text: str
    answer: str | None


def fill(items: Sequence[tuple[str, str | None]], facts: Mapping[str, str]) -> list[Item]:
    """The items with their answers.

    Args:
        items: :data:`CLAIM` or :data:`ROBERTS`.
        facts: sentences by name; a fact that is unknown is not there.
    """
    return [Item(number, text, facts.get(key or "") or None) for number, (text, key) in enumerate(items, start=1)]
