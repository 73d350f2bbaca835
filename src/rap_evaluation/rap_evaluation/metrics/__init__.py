"""The field's driving metrics, equal to their official implementations."""
