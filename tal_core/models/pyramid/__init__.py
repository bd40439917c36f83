"""Anchor-free detectors on a feature pyramid: ActionFormer, TriDet, TemporalMaxer."""
