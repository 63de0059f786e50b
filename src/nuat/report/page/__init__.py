"""The report of finished runs: records in, one page or plain tables out.

| module | what |
|---|---|
| runs, measurements, search | a folder's records, read and checked |
| groups, settings | runs that can be compared; seeds of a method together |
| table, text | the tables; as Markdown, CSV and LaTeX |
| summary | what was found, in sentences |
| html, drawing, pictures, sparkline | the page |
| card | a model card |
"""
