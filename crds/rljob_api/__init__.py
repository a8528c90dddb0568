"""The RLJob API: pydantic models only, no kopf, kubernetes or torch. One file per section of the spec."""
