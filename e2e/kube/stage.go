package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"gatehouse/e2e/rig"
	"gatehouse/e2e/rig/faultca"
	"gatehouse/e2e/rig/kube"
	"gatehouse/e2e/rig/route53"
)

// zone is the post's; names are its [[acme.domains]]: one certificate.
const zone = "office.mydomain.com"

var names = []string{zone, "nodejs-app." + zone, "encompass." + zone}

// options of a stage.
type options struct {
	dir    string        // everything is written below it
	mode   string        // folder of examples/kubernetes; "": cluster
	http01 bool          // else DNS-01 by Route 53
	inSync time.Duration // how long the Route 53 double lets a change be PENDING
	images map[string]kube.Image
}

// stage is the post's story on Kubernetes: a control plane and a node, the ACME
// test CA behind a counting proxy, a DNS server, the Route 53 double.
type stage struct {
	*kube.Kube
	node    *kube.Node
	ca      *rig.Pebble
	dns     *rig.Knot
	proxy   *faultca.Proxy
	route53 *route53.Double
	o       options
	cancel  context.CancelFunc
}

// newStage starts everything but Gatehouse. The caller calls close in the end,
// also after an error.
func newStage(ctx context.Context, o options) (s *stage, err error) {
	s = &stage{o: o}
	var relays context.Context
	relays, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	dir := func(name string) string {
		d := filepath.Join(o.dir, name)
		err = errors.Join(err, os.MkdirAll(d, 0o755))
		return d
	}
	if s.Kube, err = kube.New(ctx, dir("kube")); err != nil {
		return s, err
	}
	if s.node, err = s.NewNode(ctx, o.images); err != nil {
		return s, err
	}
	if s.dns, err = rig.NewKnot(ctx, dir("knot"), zone); err != nil {
		return s, err
	}
	if err = kube.Relay(relays, 53, s.dns.Addr()); err != nil {
		return s, err
	}
	if s.ca, err = rig.NewPebble(ctx, dir("pebble"), rig.PebbleOptions{DNSServer: s.dns.Addr(), HTTPPort: 80, TLSPort: 443}); err != nil {
		return s, err
	}
	if s.proxy, err = faultca.New(s.ca.Directory(), s.ca.Roots()); err != nil {
		return s, err
	}
	if err = kube.Relay(relays, s.proxyPort(), fmt.Sprintf("127.0.0.1:%d", s.proxyPort())); err != nil {
		return s, err
	}
	s.route53, err = route53.New(route53.Options{
		Addr: kube.NodeIP + ":0", Zones: []route53.Zone{{Name: zone, ID: "Z0OFFICE"}}, SyncDelay: o.inSync,
		DNS: &route53.DNS{Addr: s.dns.Addr(), KeyName: s.dns.KeyName, Secret: s.dns.Secret},
	})
	return s, err
}

func (s *stage) proxyPort() (port int) {
	_, rest, _ := strings.Cut(s.proxy.Directory(), "127.0.0.1:")
	_, _ = fmt.Sscanf(rest, "%d", &port)
	return port
}

// overlay is what differs from examples/kubernetes here: where the CA, the
// DNS and Route 53 are.
func (s *stage) overlay(flags ...string) string {
	var b strings.Builder
	add := func(path, value string) { fmt.Fprintf(&b, "    - {op: add, path: %s, value: %s}\n", path, value) }
	container := "/spec/template/spec/containers/0"
	args := append([]string{
		"--acme.caServer=" + strings.Replace(s.proxy.Directory(), "127.0.0.1", kube.NodeIP, 1), "--acme.caCertificates=/ca/ca.pem",
	}, flags...)
	if s.o.http01 {
		args = append(args, "--acme.dnsProvider=", "--acme.httpChallenge.entryPoint=http")
	} else {
		args = append(args, "--acme.dnsChallenge.resolvers="+kube.NodeIP+":53")
	}
	for _, arg := range args {
		add(container+"/args/-", fmt.Sprintf("%q", arg))
	}
	for name, value := range s.route53.Env() {
		add(container+"/env/-", fmt.Sprintf("{name: %s, value: %q}", name, value))
	}
	add(container+"/volumeMounts/-", "{name: ca, mountPath: /ca, readOnly: true}")
	add("/spec/template/spec/volumes/-", "{name: ca, configMap: {name: acme-ca}}")
	return b.String()
}

// deploy applies examples/kubernetes with the differences of this machine, by
// kubectl, and waits until every replica is ready.
func (s *stage) deploy(ctx context.Context, flags ...string) error {
	mode := s.o.mode
	if mode == "" {
		mode = "cluster"
	}
	dir := filepath.Join(s.o.dir, "overlay")
	base, err := filepath.Rel(dir, filepath.Join(rig.Root(), "examples/kubernetes", mode))
	if err != nil {
		return err
	}
	text := "resources: [" + base + ", ca.yaml]\npatches:\n- target: {kind: Deployment, name: gatehouse}\n  patch: |\n" + s.overlay(flags...)
	ca := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: acme-ca, namespace: gatehouse}\ndata:\n  ca.pem: |\n    " +
		strings.ReplaceAll(strings.TrimSpace(string(s.proxy.RootsPEM())), "\n", "\n    ") + "\n"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{"kustomization.yaml": text, "ca.yaml": ca} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if _, err := s.Kubectl(ctx, "", "apply", "-k", dir); err != nil {
		return err
	}
	if err := s.rolledOut(ctx); err != nil {
		return err
	}
	address, err := s.balancer(ctx)
	if err != nil {
		return err
	}
	// The names lead to the load balancer.
	return errors.Join(s.dns.Set(ctx, zone, zone, "A", address), s.dns.Set(ctx, zone, "*."+zone, "A", address))
}

// rolledOut waits until all replicas are those that are wanted, and ready.
func (s *stage) rolledOut(ctx context.Context) error {
	out, err := s.Kubectl(ctx, "", "-n", "gatehouse", "rollout", "status", "deployment/gatehouse", "--timeout=90s")
	if err != nil {
		return fmt.Errorf("%w\n%s\n%s", err, out, s.logs(ctx))
	}
	return nil
}

func (s *stage) balancer(ctx context.Context) (string, error) {
	for {
		if address := s.node.Balancer("gatehouse/gatehouse"); address != "" {
			return address, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("wait for the load balancer: %w", context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// pods are Gatehouse's.
func (s *stage) pods(ctx context.Context) ([]corev1.Pod, error) {
	var list corev1.PodList
	err := s.Do(ctx, "GET", "/api/v1/namespaces/gatehouse/pods?labelSelector=app.kubernetes.io/name%3Dgatehouse", nil, &list)
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil }), err
}

// logs are what the replicas say, for when something is wrong.
func (s *stage) logs(ctx context.Context) string {
	var b strings.Builder
	pods, err := s.pods(ctx)
	if err != nil {
		return err.Error()
	}
	for _, p := range pods {
		text := s.node.Log(p.Namespace, p.Name)
		fmt.Fprintf(&b, "%s, %s:\n%s\n", p.Name, p.Status.Phase, text[max(0, len(text)-6000):])
		for _, c := range p.Status.ContainerStatuses {
			if w := c.State.Waiting; w != nil {
				fmt.Fprintf(&b, "  %s: %s\n", w.Reason, w.Message)
			}
		}
	}
	return b.String()
}

// served waits until every replica answers every name with a certificate of
// the CA.
func (s *stage) served(ctx context.Context) error {
	roots, err := s.ca.Issued(ctx)
	if err != nil {
		return err
	}
	for {
		now := s.servedNow(ctx, roots)
		if now == nil {
			return nil
		}
		if ctx.Err() == nil {
			err = now
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the certificate is not served: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *stage) servedNow(ctx context.Context, roots *x509.CertPool) error {
	pods, err := s.pods(ctx)
	if err != nil {
		return err
	}
	ready := 0
	for _, p := range pods {
		if len(p.Status.ContainerStatuses) == 0 || !p.Status.ContainerStatuses[0].Ready {
			continue
		}
		ready++
		for _, name := range names {
			d := tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Second}, Config: &tls.Config{ServerName: name, RootCAs: roots}}
			c, err := d.DialContext(ctx, "tcp", p.Status.PodIP+":443")
			if err != nil {
				return fmt.Errorf("%s: %w", p.Name, err)
			}
			_ = c.Close()
		}
	}
	if ready < 2 {
		return fmt.Errorf("%d replicas are ready", ready)
	}
	return nil
}

func (s *stage) close() {
	if s.node != nil {
		s.node.Stop()
	}
	if s.cancel != nil {
		s.cancel()
	}
	if s.route53 != nil {
		_ = s.route53.Close()
	}
	if s.proxy != nil {
		s.proxy.Close()
	}
	if s.ca != nil && s.ca.Process != nil {
		s.ca.Kill()
	}
	if s.dns != nil && s.dns.Process != nil {
		s.dns.Kill()
	}
	if s.Kube != nil {
		s.Kill()
	}
}
