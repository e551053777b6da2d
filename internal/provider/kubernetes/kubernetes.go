// Package kubernetes takes routing configuration from the Ingresses of a
// Kubernetes cluster, and the Services, EndpointSlices and Secrets they name.
// It owns what these objects mean, how they are followed, and what is written
// back: status and Events. It neither issues certificates nor serves requests.
package kubernetes

// name of the provider, which qualifies what it publishes: web@kubernetes.
const name = "kubernetes"
