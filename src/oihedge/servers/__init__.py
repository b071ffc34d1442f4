"""The pages beside the pipeline, as processes of their own: Prefect's server and MLflow's, on loopback."""
