"""Trained models and radiographs in, findings out: what tools, web and notebooks share."""

from covidmm.inference.predictor import Predictor

__all__ = ["Predictor"]
