"""The corridor: schedules, retries, limits and artifacts; the only place that imports prefect."""
