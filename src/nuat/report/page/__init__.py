"""Report of finished runs: records in, one page or plain tables out.

| module | holds |
|---|---|
| groups | runs that can be compared; the seeds of a method together |
| changes | settings that differ from the recipe, and the commands that repeat a run |
| table, text | the tables; as Markdown, CSV and LaTeX |
| summary | the results in sentences |
| html, figure_selection, drawing, sparkline | the page |
| card | a model card |
"""
