"""What ``celeryflow demo`` runs: an ETL, each pattern, and a comparison, written as users write them."""

PATTERNS = (
    "multi_source_etl",
    "hierarchical",
    "priority_routing",
    "progressive_refinement",
    "scatter_gather",
    "checkpointed",
    "ab_test",
    "multi_tenant",
)
"""Those that `celeryflow.demo.patterns` has a file of."""

PARTS = ("etl", *PATTERNS, "compare")
"""What can be asked for alone, in the order of the whole."""
