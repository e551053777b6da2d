package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

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
			Zone: k.Zone, HideHost: k.DisablePassHostHeaders, Resolvers: g.certs.resolvers(),
		},
	}
	// Keys that cannot be read have kept the store from opening.
	if ring, err := sealRing(g.static.Store); err == nil && g.static.Store.Directory != "" {
		o.Ring = ring
		o.Copy = filepath.Join(g.static.Store.Directory, "kubernetes.json.gz")
	}
	status := kubernetes.StatusOptions{Client: client, Hold: g.holdStatus, Certificates: g.certificateNews, Replica: g.name, Logger: g.log}
	if e := k.IngressEndpoint; e != nil {
		status.IP, status.Hostname, status.PublishedService = e.IP, e.Hostname, e.PublishedService
	}
	g.status = kubernetes.NewStatus(status)
	o.Found = g.status.Found
	g.certs.deliverer = kubestore.NewDeliverer(kubestore.DelivererOptions{Client: client, Store: g.shared, Pair: cert.Pair, Namespaces: k.Namespaces, Logger: g.log})
	return kubernetes.New(o)
}

// writeStatus is the duty that writes back what Ingresses shall show.
func (g *gateway) writeStatus(ctx context.Context) error {
	if g.status == nil {
		<-ctx.Done()
		return nil
	}
	return g.status.Run(ctx)
}

// holdStatus makes this replica the one that writes status.
func (g *gateway) holdStatus(ctx context.Context) (context.Context, func(), error) {
	lease, err := g.shared.Acquire(ctx, "ingress-status")
	if err != nil {
		return nil, nil, err
	}
	return lease.Context(), func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = lease.Release(ctx) // else it ends by itself
	}, nil
}

func (g *gateway) certificateNews() []kubernetes.CertificateNews {
	var list []kubernetes.CertificateNews
	for _, s := range g.certs.keeper.Status() {
		list = append(list, kubernetes.CertificateNews{
			Sources: s.Sources, Names: s.Names, Issuer: s.Issuer, Serial: s.Serial, Until: s.NotAfter, Error: s.Error, Next: s.NextAttempt,
		})
	}
	return list
}
