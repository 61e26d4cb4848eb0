"""What ``celeryflow demo`` runs: an ETL and a comparison, written as users write them."""
