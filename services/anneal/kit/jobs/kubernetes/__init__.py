"""Jobs as pods of a Kubernetes cluster: a `batch/v1` Job for each attempt, or a KubeRay RayJob."""
