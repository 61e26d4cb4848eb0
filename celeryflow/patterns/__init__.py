"""Ready workflows for work that keeps coming back: each takes the user's steps and gives a ``Workflow``.

Steps are given when a pattern is made, data when it runs. Everything in here is written in the language of
``docs/language.md``: what a pattern does can be read in its file, and copied from there where it does not quite fit.
"""

from __future__ import annotations

from celeryflow.patterns.abtest import ab_test
from celeryflow.patterns.checkpoints import checkpointed
from celeryflow.patterns.etl import multi_source_etl
from celeryflow.patterns.hierarchy import hierarchical
from celeryflow.patterns.refinement import progressive_refinement
from celeryflow.patterns.routing import Route, priority_routing
from celeryflow.patterns.scatter import scatter_gather
from celeryflow.patterns.tenants import TenantConfig, multi_tenant

__all__ = [
    "Route",
    "TenantConfig",
    "ab_test",
    "checkpointed",
    "hierarchical",
    "multi_source_etl",
    "multi_tenant",
    "priority_routing",
    "progressive_refinement",
    "scatter_gather",
]
