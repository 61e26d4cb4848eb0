"""What people see in a notebook, in a real browser: Chromium with JupyterLab and with Notebook 7.

A cell runs by the page, as a person runs it. ``CELERYFLOW_SCREENSHOTS=docs/images python3 run.py test tests/browser``
makes the screenshots of the documents anew.
"""
