"""Losses of classification: each is given the logits of a batch and the labels that are right."""
