"""Figures: pure functions from tables to plotly and altair figures. No streamlit here."""
