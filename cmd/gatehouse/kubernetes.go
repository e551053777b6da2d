package main

import (
	"log/slog"
	"path/filepath"

	"gatehouse/internal/cert"
	"gatehouse/internal/config"
	"gatehouse/internal/kubeclient"
	"gatehouse/internal/provider/kubernetes"
	"gatehouse/internal/store/kubestore"
)

// kubeOptions are where [kubernetes] says the API server is; without that
// section it is the one of the pod this runs in, or of KUBECONFIG.
func kubeOptions(s *config.Static, log *slog.Logger) kubeclient.Options {
	o := kubeclient.Options{Logger: log}
	if k := s.Kubernetes; k != nil {
		o.Endpoint, o.Token, o.CAFile = k.Endpoint, k.Token.Reveal(), k.CertAuthFilePath
	}
	return o
}

// kubernetesStore closes the connection with the store.
type kubernetesStore struct {
	*kubestore.Store
	client *kubeclient.Client
}

func (s kubernetesStore) Close() error {
	err := s.Store.Close()
	_ = s.client.Close()
	return err
}

// openKubernetes opens the store that is the cluster itself.
func openKubernetes(s *config.Static, replica string, log *slog.Logger) (closingStore, error) {
	client, err := kubeclient.Open(kubeOptions(s, log))
	if err != nil {
		return nil, err
	}
	opened, err := kubestore.Open(kubestore.Options{
		Client: client, Namespace: s.Store.Namespace, Prefix: s.Store.Prefix, Pair: cert.Pair,
		TTL: s.Store.TTL.Std(), Replica: replica, Logger: log,
	})
	if err != nil {
		_ = client.Close()
		return nil, err
	}
	return kubernetesStore{opened, client}, nil
}

// ingresses opens the provider that [kubernetes] asks for. One that has no API
// server to ask costs no other provider.
func (g *gateway) ingresses() *kubernetes.Provider {
	k := g.static.Kubernetes
	if k == nil {
		return nil
	}
	client, err := kubeclient.Open(kubeOptions(g.static, g.log))
	if err != nil {
		g.log.Error("Ingresses are not followed", "err", err, "next", "set kubernetes.endpoint, or run in a pod, and start again")
		return nil
	}
	o := kubernetes.Options{
		Client: client, Namespaces: k.Namespaces, LabelSelector: k.LabelSelector, Logger: g.log,
		Settings: kubernetes.Settings{
			IngressClass: k.IngressClass, Selected: k.LabelSelector != "", ExternalNames: k.AllowExternalNameServices,
			Zone: k.Zone, HideHost: k.DisablePassHostHeaders,
		},
	}
	if g.static.Store.Directory != "" {
		o.Copy = filepath.Join(g.static.Store.Directory, "kubernetes.json.gz")
	}
	return kubernetes.New(o)
}
