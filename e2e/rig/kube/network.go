package kube

import "os"

// Addresses of the network that Main makes. Those of nodeNet are all the
// machine's own, so that anybody may listen on any of them; pods have theirs.
const (
	NodeIP     = "10.244.0.1"
	ServiceIP  = "10.96.0.1" // of the Service "kubernetes"
	networkEnv = "GATEHOUSE_RIG_NETWORK"
)

// InNetwork says whether this process is in a network namespace that Main
// made for it.
func InNetwork() bool { return os.Getenv(networkEnv) != "" }
