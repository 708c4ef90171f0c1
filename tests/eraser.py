"""Faithfulness by ERASER's definitions, slowly: one text, one set of tokens at a time, in Python floats.

A model is ``p(i, present)``: the probability of text i with a set of its tokens present. A ranking is a list of places.
"""

import math
from itertools import permutations
from statistics import fmean

from scipy.stats import kendalltau


def ranking(scores, places):
    """The places by score, the highest first, of equal ones the first in the text."""
    return sorted(places, key=lambda t: (-float(scores[t]), t))


def size(percent, units):
    """⌈q·n⌉ in whole numbers."""
    return -(-percent * units // 100)


def comprehensiveness(p, i, order, bins):
    return [p(i, set(order)) - p(i, set(order[size(q, len(order)) :])) for q in bins]


def sufficiency(p, i, order, bins):
    return [p(i, set(order)) - p(i, set(order[: size(q, len(order))])) for q in bins]


def normalized_aopc(p, i, order, bins, measure):
    """By trial of every order."""
    areas = [fmean(measure(p, i, list(each), bins)) for each in permutations(order)]
    return (fmean(measure(p, i, order, bins)) - min(areas)) / (max(areas) - min(areas))


def log_odds(p, i, order, percent):
    return math.log(p(i, set(order))) - math.log(p(i, set(order[size(percent, len(order)) :])))


def leave_one_out(p, i, scores, places):
    lost = [p(i, set(places)) - p(i, set(places) - {t}) for t in places]
    return kendalltau([float(scores[t]) for t in places], lost).statistic


def infidelity(p, i, scores, places, sets):
    """Mean over sets of tokens that are absent."""
    missed = []
    for absent in sets:
        gone = set(places) & set(absent)
        missed.append(sum(float(scores[t]) for t in gone) - (p(i, set(places)) - p(i, set(places) - gone)))
    return fmean(each * each for each in missed)
