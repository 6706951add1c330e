"""The reporting checklists CLAIM (2020) and TRIPOD+AI (2024), each item in our own short words.

An item lists the keys of `caveats.phrases` that may answer it, and what the author has to add. If the run has none of
these phrases, the author answers the whole item. The published checklists are the reference: PMC8017414 and
doi 10.1136/bmj-2023-078378.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """A checklist item: its number, what it asks for, the phrases that may answer it, and what the author adds."""

    number: str
    asks: str
    known: tuple[str, ...] = ()
    author: str = ""


@dataclass(frozen=True)
class Answer:
    """An item with its answer.

    Attributes:
        number: Number of the item.
        asks: What it asks for, in short.
        known: The answer from the run; may be empty.
        author: What the author has to add; may be empty.
        status: Who answers: `run`, `in part` (both) or `author`.
    """

    number: str
    asks: str
    known: str
    author: str

    @property
    def status(self) -> str:
        """Return who answers."""
        if not self.known:
            return "author"
        return "in part" if self.author else "run"


def fill(items: Sequence[Item], phrases: Mapping[str, str]) -> list[Answer]:
    """Return the items with the run's answers.

    Args:
        items: `CLAIM` or `TRIPOD_AI`.
        phrases: From `caveats.phrases`; a missing key is a fact that the run does not know.
    """
    answers = []
    for item in items:
        said = " ".join(phrases[key] for key in item.known if key in phrases)
        answers.append(Answer(item.number, item.asks, said, item.author if said else item.author or "to be written"))
    return answers


CLAIM = (
    Item("1", "Title or abstract names the AI method and its kind", ("technology",), "put it into the title"),
    Item("2", "Structured summary: design, methods, results, conclusions", ("summary",), "the summary itself"),
    Item("3", "Background: clinical problem, intended use and role", ("use",), "the clinical background"),
    Item("4", "Aims and hypotheses", (), "what the study set out to show"),
    Item("5", "Prospective or retrospective", (), "how the radiographs were collected"),
    Item("6", "Goal of the study, e.g. a new model, feasibility", ("goal",), "the goal in its context"),
    Item("7", "Sources of the data", ("source",), "where, from whom and under which licence"),
    Item("8", "Who was eligible; where and when", (), "inclusion, exclusion, places and dates"),
    Item("9", "Steps of preprocessing", ("preprocessing",), ""),
    Item("10", "Selection of subsets of the data", ("subset",), "any selection made before"),
    Item("11", "Definitions of the data elements", ("grades",), "definitions of further columns"),
    Item("12", "De-identification", (), "how names and dates were removed"),
    Item("13", "Missing data", ("missing",), ""),
    Item("14", "Definition of the reference standard", ("grades",), "which reading was used, by which protocol"),
    Item("15", "Why this reference standard", (), "the reason, and the alternatives"),
    Item("16", "Who annotated, and their training", (), "readers, their experience and instructions"),
    Item("17", "Annotation tools", (), "viewer and software"),
    Item("18", "Variability between and within readers, and how it was resolved", ("readers",), "the adjudication"),
    Item("19", "Intended sample size and how it was determined", ("size",), "why this size"),
    Item("20", "How the data were assigned to splits, and their shares", ("partition",), ""),
    Item("21", "Level at which the splits are disjoint", ("disjoint",), ""),
    Item("22", "The model in detail: inputs, layers, outputs", ("model", "output"), ""),
    Item("23", "Software, libraries, versions", ("software",), ""),
    Item("24", "Initial values of the parameters", ("weights",), ""),
    Item("25", "Training: augmentation, hyperparameters, number of models", ("training", "augmentation"),
         "how many models were tried, and how the settings were chosen"),
    Item("26", "How the final model was chosen", ("selection",), ""),
    Item("27", "Ensembling", ("ensembling",), ""),
    Item("28", "Metrics of performance", ("metrics",), "why these metrics"),
    Item("29", "Significance and uncertainty", ("uncertainty",), ""),
    Item("30", "Robustness or sensitivity analysis", ("robustness",), "further analyses"),
    Item("31", "Explainability, and how it was validated", ("explanations",), ""),
    Item("32", "Testing on external data", ("external",), ""),
    Item("33", "Flow of participants or cases", ("flow",), "the flow that led to the data set"),
    Item("34", "Demographic and clinical characteristics of each split", ("characteristics",),
         "age, sex and further characteristics of each split"),
    Item("35", "Performance of the final model on all splits", ("performance",), "the other splits"),
    Item("36", "Estimates of accuracy with their precision", ("performance", "uncertainty"), ""),
    Item("37", "Failure analysis of wrongly classified cases", ("failures",), "what a reader sees in them"),
    Item("38", "Limitations: bias, uncertainty, generalisability", ("limits",), "limitations of the study design"),
    Item("39", "Implications for practice; intended use", ("use",), "what follows from the results"),
    Item("40", "Registration", (), "number and registry"),
    Item("41", "Where to find the full protocol", ("code",), "the protocol"),
    Item("42", "Funding and the role of funders", (), "sources and role"),
)  # fmt: skip

TRIPOD_AI = (
    Item("1", "Title: develops or evaluates a prediction model; population; outcome", ("goal",), "the title itself"),
    Item("2", "Abstract, by the checklist for abstracts", ("summary",), "the abstract itself"),
    Item("3a", "Healthcare context, rationale, existing models", (), "the context and the literature"),
    Item("3b", "Target population, purpose in the care pathway, users", ("use",), "population and pathway"),
    Item("3c", "Known health inequalities between groups", (), "what is known for this population"),
    Item("4", "Objectives: development, evaluation or both", ("goal",), "the objectives"),
    Item("5a", "Sources of the data for development and evaluation", ("source",), "why these, and how representative"),
    Item("5b", "Dates of the data", (), "start and end"),
    Item("6a", "Setting: level of care, number and place of centres", (), "the setting"),
    Item("6b", "Eligibility", (), "inclusion and exclusion"),
    Item("6c", "Treatments received, if relevant", (), "whether they matter here"),
    Item("7", "Preparation and quality checks of the data", ("preprocessing", "quality"), "if alike for all groups"),
    Item("8a", "Outcome: definition, how and when assessed", ("grades",), "when and how the radiographs were read"),
    Item("8b", "Who assessed the outcome, if that takes judgement", ("readers",), "qualifications and demographics"),
    Item("8c", "Blinding of the assessment", (), "what the readers knew"),
    Item("9a", "Choice of predictors", ("predictors",), ""),
    Item("9b", "Definition of the predictors, how and when measured", ("predictors",), "the acquisition"),
    Item("9c", "Who assessed predictors, if that takes judgement", ("no_judgement",), ""),
    Item("10", "Sample size and its justification", ("size",), "why this size"),
    Item("11", "Missing data", ("missing",), ""),
    Item("12a", "How the data were used: development, evaluation, splits", ("partition", "disjoint"), ""),
    Item("12b", "How predictors were handled: rescaling, transformation", ("preprocessing",), ""),
    Item("12c", "Type of model; how it was built, tuned, internally validated", ("model", "training", "selection"),
         "the search for settings"),
    Item("12d", "Heterogeneity between clusters, e.g. centres", ("clusters",), "if there are several centres"),
    Item("12e", "Measures and plots of performance, and why", ("metrics", "uncertainty"), "why these metrics"),
    Item("12f", "Updating of the model, e.g. recalibration", ("calibration",), ""),
    Item("12g", "How predictions were calculated in the evaluation", ("calculated",), ""),
    Item("13", "Class imbalance: whether and how it was handled", ("imbalance",), "the reason"),
    Item("14", "Fairness: what was done, and why", ("fairness",), "the groups that matter here"),
    Item("15", "Output of the model, and thresholds for classes", ("output",), ""),
    Item("16", "Differences between development and evaluation data", ("external",), "setting, eligibility, outcome"),
    Item("17", "Ethical approval", (), "the committee and consent"),
    Item("18a", "Funding", (), "sources and role"),
    Item("18b", "Conflicts of interest", (), "of all authors"),
    Item("18c", "Protocol", (), "where to find it, or that there is none"),
    Item("18d", "Registration", (), "the number, or that there is none"),
    Item("18e", "Availability of the data", (), "where and under which terms"),
    Item("18f", "Availability of the code", ("code",), "where to get it"),
    Item("19", "Involvement of patients and the public", (), "how they were involved, or that they were not"),
    Item("20a", "Flow of participants, with and without the outcome", ("flow",), "the flow that led to the data set"),
    Item("20b", "Characteristics overall and by setting", ("characteristics",), "age, sex, and by setting"),
    Item("20c", "Development and evaluation data compared", ("compared",), "important predictors"),
    Item("21", "Participants and outcomes in each analysis", ("flow",), ""),
    Item("22", "The full model, so that others can predict with it", ("specification",), "where to get it"),
    Item("23a", "Performance with intervals, also of subgroups", ("performance", "fairness"), ""),
    Item("23b", "Heterogeneity of performance between clusters", ("clusters",), "if there are several centres"),
    Item("24", "Results of updating the model", ("calibration",), ""),
    Item("25", "Interpretation, including fairness, in the light of other studies", (), "the interpretation"),
    Item("26", "Limitations", ("limits",), "limitations of the study design"),
    Item("27a", "How to handle poor or missing input in use", ("input",), ""),
    Item("27b", "What users must do and know to use it", (), "interaction and expertise"),
    Item("27c", "Next steps; applicability and generalisability", (), "the next steps"),
)  # fmt: skip
