package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const shop = "shop." + zone

const shopIngress = `apiVersion: v1
kind: Service
metadata: {name: shop, namespace: default}
spec:
  selector: {app: echo}
  ports: [{name: web, port: 80, targetPort: 3000}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: default, labels: {public-lb: traefik}}
spec:
  ingressClassName: gatehouse
  tls: [{hosts: [` + shop + `], secretName: shop-tls}]
  rules:
  - host: ` + shop + `
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: shop, port: {name: web}}}}]}
`

// An Ingress is all that is needed: its certificate is obtained, once, and
// stands in the Secret it names; its pods answer through every replica.
func TestIngress(t *testing.T) {
	s := start(t, options{})
	if err := s.deploy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, err := s.Kubectl(t.Context(), echoPods+"---\n"+shopIngress, "apply", "-f", "-"); err != nil {
		t.Fatal(err, out)
	}
	applied := time.Now()
	s.delivered(t, "shop-tls", shop)
	t.Logf("certificate in the Secret %v after the Ingress was applied", time.Since(applied).Round(10*time.Millisecond))
	if _, err := s.Kubectl(t.Context(), "", "rollout", "status", "deployment/echo", "--timeout=90s"); err != nil {
		t.Fatal(err)
	}
	roots, err := s.ca.Issued(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	balancer, err := s.balancer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pods, err := s.pods(t.Context())
	if err != nil || len(pods) != 3 {
		t.Fatalf("%d pods, want 3: %v", len(pods), err)
	}
	addresses := []string{balancer}
	for _, p := range pods {
		addresses = append(addresses, p.Status.PodIP)
	}
	for _, address := range addresses {
		s.until(t, "the pod answers through "+address, func() error { return answered(t.Context(), address, roots) })
	}
	if orders, certs := s.proxy.Orders(shop), s.proxy.Certificates(shop); orders != 1 || certs != 1 {
		t.Errorf("the CA saw %d orders for %s and gave %d certificates, want one of each", orders, shop, certs)
	}
}

// answered is one request for the shop to a replica, whose certificate must be
// the CA's; the answer must be a pod's.
func answered(ctx context.Context, address string, roots *x509.CertPool) error {
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, net.JoinHostPort(address, "443"))
		},
	}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+shop+"/cart?id=1", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: tr, Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	var echo struct{ Pod, Host, Path, Query string }
	if err := json.NewDecoder(resp.Body).Decode(&echo); err != nil {
		return err
	}
	if !strings.HasPrefix(echo.Pod, "echo-") || echo.Host != shop || echo.Path != "/cart" || echo.Query != "id=1" {
		return fmt.Errorf("answered by %+v", echo)
	}
	return nil
}

// delivered waits until kubectl shows a TLS Secret in the namespace default
// with a certificate of the CA for all hosts.
func (s *stage) delivered(t *testing.T, name string, hosts ...string) {
	t.Helper()
	roots, err := s.ca.Issued(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.until(t, "the certificate stands in Secret "+name, func() error {
		out, err := s.Kubectl(t.Context(), "", "get", "secret", name, "-o", "json")
		if err != nil {
			return err
		}
		var secret corev1.Secret
		if err := json.Unmarshal([]byte(out), &secret); err != nil {
			return err
		}
		pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
		if err != nil || secret.Type != corev1.SecretTypeTLS {
			return fmt.Errorf("type %s: %w", secret.Type, err)
		}
		between := x509.NewCertPool()
		between.AppendCertsFromPEM(secret.Data[corev1.TLSCertKey])
		for _, host := range hosts {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: between}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *stage) until(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(45 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
