"""Showing results: tables and charts for a terminal, figures for a paper, an HTML report, traces."""
