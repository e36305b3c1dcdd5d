"""What each part of a report on predictability is called and how it is read, what is missing, and which command makes
it."""

from __future__ import annotations

from collections.abc import Mapping

from neuronagent.report.predictability_content import PredictabilityContent

TITLES: Mapping[str, str] = {
    "pairs": "How well each layer foretells each other (Figure 2 a, b)",
    "layers": "R² by layer, beside what knows less",
    "token": "Beyond the token at hand",
    "scale": "L2 and a neuron’s scale",
    "curves": "Training with Adagrad (Figure 2 c, d)",
    "optimisers": "Least squares and Adagrad",
    "texts": "On other texts",
    "substitution": "Predicted neurons in place of actual ones (Table 1)",
    "domains": "Substitution on other texts (Table 2)",
    "halves": "Substituting halves of the neurons (Figure 4)",
    "functional": "Neurons sensitive to n-grams, difficulty and position (Figure 5 a–c)",
    "background": "Background neurons (Figures 5 d and 8)",
    "classes": "IO classes and roles of background and sensitive neurons",
    "outliers": "Outlier neurons (Appendix C.1)",
    "windows": "Limited context (Figure 6)",
    "models": "From another model (Figure 7)",
}
HOW: Mapping[str, str] = {
    "pairs": "A cell is a map from the source layer to the target layer. Mean L2, over the target’s neurons, is what "
    "the paper shows; it grows with how much the neurons do, while R² and Pearson do not. Above the diagonal a map "
    "goes backward, below it forward, on it a layer is foretold from itself: the identity would have no error. The "
    "colours are scaled without the diagonal; what is beyond stands at their ends.",
    "layers": "The layer below is the nearest one that has a map onto it. Above: the median of a layer’s neurons as a "
    "mark, their middle half as a line. The token alone, the "
    "token before it and the position are tables of means, made on the texts that the maps are fitted on. Below: each "
    "column is a layer, the stronger the colour the more neurons.",
    "token": "A dot is a neuron; above the dashes it is foretold by the layer below beyond what the token at hand "
    "already says. R² below −0.25 is drawn there.",
    "scale": "A dot is a neuron. On the upper dashes nothing is foretold: L2 is the standard deviation. Where dots "
    "follow the dashes, L2 ranks neurons by scale more than by how predictable they are.",
    "curves": "Each line is the mean over maps of the error on a batch before the step that is made on it.",
    "optimisers": "Mean squared error on the same held-out tokens, as a share of the variance, "
    "which is the error of foretelling the mean (dashes). Layers foretold from themselves may stand at the left edge, "
    "far below. Both fits read the same tokens.",
    "texts": "Means over the same pairs of different layers, on each text that the fit is scored on.",
    "substitution": "Perplexity of the whole model while the neurons of one chunk of layers are replaced. Complete: "
    "all later layers and the output see what is put in place. Partial: later layers see it, and the output gets the "
    "actual contribution of the replaced layers, as the paper defines it; the numbers of its Table 1 rather look like "
    "the contrary, the output alone seeing what is put in place. Predicted: the map from the nearest layer below. "
    "Random: a matrix whose rows have the norms of the map’s. Identical: the activations of the source layer as they "
    "are. Position 0 is never replaced where it is BOS. Lines: 95 % intervals, over documents, of the change from "
    "the unmodified model; that of random maps is a mean over draws in the loss, the mark one of their perplexities.",
    "domains": "Perplexities, averaged over the chunks, on held-out documents of the text that the maps were fitted "
    "on, and on other texts.",
    "halves": "All neurons of the substituted layers, split at each layer’s median of a metric; the top half has the "
    "larger values. What takes the place of the top and of the bottom half is named on the left. Dashes: the "
    "unmodified model. Complete substitution.",
    "functional": "Neurons whose variance a property explains better than 99 % of neurons under random properties as "
    "frequent, and how well the layer below foretells them. Marks are means over properties, with 95 % intervals; "
    "filled where the difference from random tokens is not 0 (95 %), else hollow. Grey: neurons picked by random "
    "tokens, 95 % of single draws, which differ more among each other than a mean over many properties does.",
    "background": "A neuron is background if its L2 is below that of the random baseline of its layer. Random "
    "tokens select neurons nearly at random, so that about half of a layer is below, whatever its neurons do. "
    "Diamonds: those whose R² is above that of the baseline, which does not depend on scale.",
    "classes": "Above, neurons that are both: background, or of the tenth of their layer that a property says most of, "
    "and of the class or role. Below, the odds ratio over layers (Mantel and Haenszel), 1 by chance. Coloured where it "
    "stands out after correction for all cells (q < 0.05).",
    "outliers": "Neurons with a value far beyond what the values of their layer are like.",
    "windows": "Maps fitted and scored with every token run on its last w tokens alone, less those of whole texts. "
    "Above 0 in L2: harder to foretell with little context.",
    "models": "As the first figure; sources are layers of another model that reads the same tokens.",
}
COMMANDS: Mapping[str, str] = {
    "pairs": "neuronagent predict fit --pairs all && neuronagent predict scores",
    "layers": "neuronagent predict scores",
    "token": "neuronagent predict scores",
    "scale": "neuronagent predict scores",
    "curves": "neuronagent predict fit --fit adagrad --name adagrad",
    "optimisers": "neuronagent predict fit --fit adagrad --name adagrad",
    "texts": "neuronagent predict scores --text SOURCE",
    "substitution": "neuronagent predict substitute",
    "domains": "neuronagent predict substitute --text SOURCE",
    "halves": "neuronagent predict substitute --halves",
    "functional": "neuronagent predict functional",
    "background": "neuronagent predict functional",
    "classes": "neuronagent predict functional",
    "outliers": "neuronagent predict functional",
    "windows": "neuronagent predict fit --context 15 && neuronagent predict scores --fit default-w15",
    "models": "neuronagent predict fit --source-model FOLDER --name other && neuronagent predict scores --fit other",
}


def missing(content: PredictabilityContent, name: str) -> str | None:
    """Why the part `name` has nothing to show; None where it has."""
    if name in ("token", "scale"):
        found = content["layers"]
        if found["reason"] is None and not any(row["source"] is not None for row in found["rows"]):
            return f"the fit {content['main']} has no scored map from a layer below"
        return found["reason"]
    if name == "domains":
        found = content["substitution"]
        return found["reason"] or (None if len(found["views"]) > 1 else "substitution is measured on one text alone")
    if name in ("background", "classes", "outliers"):
        return _functional_missing(content, name)
    return content[name]["reason"]


def _functional_missing(content: PredictabilityContent, name: str) -> str | None:
    found = content["functional"]
    summary = found["summary"]
    if found["reason"] is not None:
        return found["reason"]
    if name == "background":
        known = any(one["background"]["share"] is not None for one in found["layers"])
        return None if known else "no layer has a random baseline to hold its neurons against"
    if summary is None:
        return "the analysis of functional neurons was stopped before its end"
    return "there are neither classes nor roles" if name == "classes" and not summary["contingency"] else None
