package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"golang.org/x/net/websocket"

	"gatehouse/e2e/rig/kube"
)

// world is the one rig on which all scenarios stand.
type world struct {
	*kube.Kube
	node  *kube.Node
	ip    map[string]string // of each Gatehouse
	ca    *x509.Certificate
	key   *ecdsa.PrivateKey
	roots *x509.CertPool
}

// edges are the Gatehouses, each a pod, where it lives, which says what it may
// read, and what it looks at.
var edges = map[string]struct{ space, settings string }{
	"edge":     {"gatehouse", "namespaces = [\"alpha\", \"beta\", \"gamma\"]\n[kubernetes.ingressEndpoint]\nip = \"192.0.2.1\""},
	"fallback": {"gatehouse", "namespaces = [\"delta\"]"},
	"hostless": {"gatehouse", "namespaces = [\"epsilon\"]"},
	"inner":    {"gatehouse", "namespaces = [\"alpha\"]\ningressClass = \"inner\""},
	"tenant-a": {"tenant-a", "namespaces = [\"tenant-a\"]\ningressClass = \"gatehouse\""},
	"tenant-b": {"tenant-b", "namespaces = [\"tenant-b\"]\ningressClass = \"gatehouse\""},
	"greedy":   {"tenant-a", "namespaces = [\"tenant-a\", \"tenant-b\"]\ningressClass = \"gatehouse\""},
}

func newWorld(t *testing.T, k *kube.Kube) *world {
	t.Helper()
	w := &world{Kube: k, ip: map[string]string{}, roots: x509.NewCertPool()}
	w.node = k.StartNode(t, theImages(t))
	var err error
	if w.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "scenarios"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, w.key.Public(), w.key)
	if err != nil {
		t.Fatal(err)
	}
	if w.ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	w.roots.AddCert(w.ca)
	t.Cleanup(func() {
		for name, e := range edges {
			if t.Failed() {
				text := w.node.Log(e.space, name)
				t.Logf("%s:\n%s", name, text[max(0, len(text)-4000):])
			}
		}
	})
	return w
}

// build applies all objects: first those that others must be younger than.
func (w *world) build(t *testing.T, groups []group) {
	t.Helper()
	rights, err := os.ReadFile(examples("cluster", "rbac.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	stand, err := os.ReadFile("testdata/scenarios/world.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w.Apply(t, string(rights))
	first, rest := string(stand), ""
	for _, d := range []struct {
		space, name, more string
		replicas          int
	}{
		{"alpha", "one", "", 3}, {"alpha", "two", "", 1}, {"beta", "one", "", 1}, {"delta", "one", "", 1}, {"epsilon", "one", "", 1},
		{"alpha", "linger", "LINGER", 1}, {"alpha", "never", "", 1}, {"alpha", "empty", "", 0},
		{"tenant-a", "one", "", 1}, {"tenant-b", "one", "", 1},
	} {
		first += "---\n" + echoService(d.space, d.name, d.more, d.replicas)
	}
	for _, g := range groups {
		for _, s := range g.scenarios {
			for object := range strings.SplitSeq(s.objects, "\n---\n") {
				if strings.TrimSpace(object) == "" {
					continue
				}
				if object = "---\n" + w.manifest(t, object) + "\n"; strings.Contains(object, `first: "yes"`) {
					first += object
				} else {
					rest += object
				}
			}
		}
	}
	own, err := os.ReadFile(examples("namespaced", "rbac.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{"tenant-a", "tenant-b"} {
		role := string(own)[strings.Index(string(own), "---\n"):]
		first += strings.NewReplacer("namespace: default", "namespace: "+tenant, "namespace: gatehouse", "namespace: "+tenant).Replace(role)
	}
	for name, e := range edges {
		first += "---\n" + edge(name, e.space, e.settings)
	}
	w.Apply(t, first)
	began := time.Now()
	time.Sleep(time.Until(began.Add(1100 * time.Millisecond))) // ages are told in seconds
	w.Apply(t, rest)
	w.run(t)
}

// echoes are the echo pods that become ready.
const echoes = 10

// run waits for all pods but those that are never ready.
func (w *world) run(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var list corev1.PodList
		if err := w.Do(t.Context(), http.MethodGet, "/api/v1/pods", nil, &list); err != nil {
			t.Fatal(err)
		}
		ready := 0
		for _, p := range list.Items {
			if len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].Ready {
				ready++
			}
			if edges[p.Name].space == p.Namespace {
				w.ip[p.Name] = p.Status.PodIP
			}
		}
		if ready == echoes+len(edges) {
			return
		}
		if time.Now().After(deadline) {
			out, _ := w.Kubectl(t.Context(), "", "get", "pods", "-A", "-o", "wide")
			t.Fatalf("%d pods are ready, want %d\n%s", ready, echoes+len(edges), out)
		}
	}
}

// echoService is a Deployment and its Service; "never" is never ready.
func echoService(space, name, variable string, replicas int) string {
	probe, more := 3000, ""
	if name == "never" {
		probe = 9
	}
	if variable != "" {
		more = ", {name: " + variable + ", value: 15s}"
	}
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {app: %[2]s}}
    spec:
      containers:
      - name: echo
        image: echo:latest
        env: [{name: PORTS, value: "3000 3001"}, {name: SERVICE, value: %[1]s/%[2]s}%[5]s]
        readinessProbe: {httpGet: {path: /, port: %[4]d}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: %[2]s, namespace: %[1]s}
spec: {selector: {app: %[2]s}, ports: [{name: web, port: 80, targetPort: 3000}, {name: other, port: 8080, targetPort: 3001}]}
`, space, name, replicas, probe, more)
}

// edge is a Gatehouse in a pod, with nothing but what it needs for Ingresses.
func edge(name, space, settings string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: ServiceAccount
metadata: {name: gatehouse, namespace: %[3]s}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: %[1]s, namespace: %[3]s}
data:
  gatehouse.toml: |
    defaultEntryPoints = ["http", "https"]
    [entryPoints.http]
    address = ":80"
    [entryPoints.https]
    address = ":443"
    [entryPoints.https.tls]
    [ping]
    entryPoint = "http"
    [kubernetes]
    %[2]s
---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: %[3]s}
spec:
  serviceAccountName: gatehouse
  terminationGracePeriodSeconds: 1
  securityContext: {sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "0"}]}
  containers:
  - name: gatehouse
    image: gatehouse:latest
    args: ["-c", "/etc/gatehouse/gatehouse.toml"]
    readinessProbe: {httpGet: {path: /ping, port: 80}, periodSeconds: 1}
    volumeMounts: [{name: settings, mountPath: /etc/gatehouse}, {name: copy, mountPath: /var/lib/gatehouse}]
  volumes: [{name: settings, configMap: {name: %[1]s}}, {name: copy, emptyDir: {}}]
`, name, strings.ReplaceAll(settings, "\n", "\n    "), space)
}

// manifest is YAML in which certificates have been made.
func (w *world) manifest(t *testing.T, text string) string {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(text) {
		var names, secret string
		if n, _ := fmt.Sscanf(line, "CERTIFICATE of %s in %s", &names, &secret); n != 2 {
			out.WriteString(line)
			continue
		}
		space, name, _ := strings.Cut(secret, "/")
		certificate, key := w.certificate(t, strings.Split(names, ","))
		fmt.Fprintf(&out, "apiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s}\ntype: kubernetes.io/tls\ndata: {tls.crt: %s, tls.key: %s}\n",
			name, space, base64.StdEncoding.EncodeToString(certificate), base64.StdEncoding.EncodeToString(key))
	}
	return out.String()
}

func (w *world) certificate(t *testing.T, names []string) (certificate, key []byte) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, w.ca, own.Public(), w.key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})
}

// came is what came of an ask.
type came struct {
	outcome     string // the Service that answered, or the status
	over        string // the protocol the answer came by
	certificate string // the names on it, if our CA vouches for it
	echo        echoed
}

// echoed is what the pod says it saw.
type echoed struct {
	Pod, Service, Method, Host, Path, Query, Port, Proto string
	Header                                               http.Header
}

func (c came) fact(name string) string {
	value := map[string]string{
		"host": c.echo.Host, "path": c.echo.Path, "query": c.echo.Query, "method": c.echo.Method, "port": c.echo.Port, "proto": c.echo.Proto,
		"over": c.over, "certificate": c.certificate,
	}[name]
	if value == "" {
		return "-"
	}
	return value
}

func (w *world) ask(ctx context.Context, a ask) (came, error) {
	switch a.protocol {
	case "event", "status", "slice", "read":
		outcome, err := w.object(ctx, a)
		return came{outcome: outcome}, err
	case "ws":
		return w.socket(ctx, a)
	case "spread":
		return w.spread(ctx, a)
	}
	tr := w.transport(a)
	defer tr.CloseIdleConnections()
	return w.request(ctx, tr, a)
}

// transport leads to a Gatehouse, whatever host the URL names.
func (w *world) transport(a ask) *http.Transport {
	tr := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return w.dial(ctx, a)
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // judged after it
		Protocols:       new(http.Protocols),
	}
	http2 := a.protocol == "h2" || a.protocol == "grpc"
	tr.Protocols.SetHTTP1(!http2)
	tr.Protocols.SetHTTP2(http2)
	return tr
}

func (w *world) dial(ctx context.Context, a ask) (net.Conn, error) {
	port := map[string]string{"http": "80", "https": "443"}[a.url.Scheme]
	return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "tcp", net.JoinHostPort(w.ip[a.via], port))
}

func (w *world) request(ctx context.Context, tr *http.Transport, a ask) (c came, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	message := ""
	if a.protocol == "grpc" {
		a.method, message = http.MethodPost, "\x00\x00\x00\x00\x02hi"
	}
	req := &http.Request{Method: a.method, URL: a.url, Host: a.url.Host, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(message)), ContentLength: int64(len(message))}
	if message == "" {
		req.Body = http.NoBody
	} else {
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("TE", "trailers")
	}
	for name, value := range a.header {
		req.Header.Set(name, value)
	}
	resp, err := tr.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return c, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return c, err
	}
	c.over, c.certificate = resp.Proto, w.vouched(resp.TLS)
	c.outcome = strings.TrimSpace(fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Location")))
	if resp.StatusCode != http.StatusOK {
		return c, nil
	}
	if a.protocol == "grpc" {
		if status := resp.Trailer.Get("Grpc-Status"); status != "0" || string(body) != message {
			return c, fmt.Errorf("message %q, trailers %v", body, resp.Trailer)
		}
		body = []byte(resp.Header.Get("Echo"))
	}
	if a.method != http.MethodHead {
		err = json.Unmarshal(body, &c.echo)
		c.outcome = c.echo.Service
	}
	return c, err
}

// vouched gives the names on a certificate of our CA.
func (w *world) vouched(s *tls.ConnectionState) string {
	if s == nil {
		return ""
	}
	leaf := s.PeerCertificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: w.roots, DNSName: s.ServerName}); err != nil {
		return ""
	}
	return strings.Join(leaf.DNSNames, " ")
}

// socket opens a WebSocket, and has a message come back.
func (w *world) socket(ctx context.Context, a ask) (c came, err error) {
	conn, err := w.dial(ctx, a)
	if err != nil {
		return c, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	location := *a.url
	location.Scheme = map[string]string{"http": "ws", "https": "wss"}[a.url.Scheme]
	if a.url.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: a.url.Hostname(), InsecureSkipVerify: true})
	}
	config, err := websocket.NewConfig(location.String(), a.url.String())
	if err != nil {
		return c, err
	}
	ws, err := websocket.NewClient(config, conn)
	if err != nil {
		return c, err
	}
	buffer := make([]byte, 64<<10)
	n, err := ws.Read(buffer)
	if err == nil {
		err = json.Unmarshal(buffer[:n], &c.echo)
	}
	if err == nil {
		_, err = ws.Write([]byte("hello"))
	}
	if err == nil {
		n, err = ws.Read(buffer)
	}
	if err == nil && !bytes.Equal(buffer[:n], []byte("hello")) {
		err = fmt.Errorf("%q came back", buffer[:n])
	}
	c.outcome = c.echo.Service
	return c, err
}

// spread asks often, and tells how many pods answered a fair part.
func (w *world) spread(ctx context.Context, a ask) (c came, err error) {
	const often = 60
	tr := w.transport(ask{via: a.via, url: a.url})
	defer tr.CloseIdleConnections()
	pods := map[string]int{}
	for range often {
		one, err := w.request(ctx, tr, a)
		if err != nil {
			return c, err
		}
		if one.echo.Pod == "" {
			return c, errors.New(one.outcome)
		}
		pods[one.echo.Pod]++
	}
	for pod, n := range pods {
		if n < often/len(pods)/2 {
			return c, fmt.Errorf("%s answered %d of %d requests: %v", pod, n, often, pods)
		}
	}
	c.outcome = fmt.Sprint(len(pods), " pods")
	return c, nil
}

// read gives the namespaces of which a tenant's Gatehouse was let read or write
// anything.
func (w *world) read(tenant string) (string, error) {
	calls, err := callsOf(w.Kube, tenant)
	spaces := map[string]bool{}
	for _, c := range calls {
		if c.Response.Code < 400 {
			spaces[cmp.Or(c.ObjectRef.Namespace, "all")] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(spaces)), " "), err
}

// object is what the API server has of an object.
func (w *world) object(ctx context.Context, a ask) (string, error) {
	space, name, _ := strings.Cut(a.object, "/")
	switch a.protocol {
	case "read":
		return w.read(space)
	case "status":
		var in networkingv1.Ingress
		err := w.Do(ctx, http.MethodGet, "/apis/networking.k8s.io/v1/namespaces/"+space+"/ingresses/"+name, nil, &in)
		if err != nil || len(in.Status.LoadBalancer.Ingress) == 0 {
			return "-", err
		}
		return in.Status.LoadBalancer.Ingress[0].IP, nil
	case "event":
		var list eventsv1.EventList
		err := w.Do(ctx, http.MethodGet, "/apis/events.k8s.io/v1/namespaces/"+space+"/events", nil, &list)
		for _, e := range list.Items {
			if e.Regarding.Name == name && e.Reason == a.want[0] {
				return e.Reason, nil
			}
		}
		return "none", err
	}
	var list discoveryv1.EndpointSliceList
	err := w.Do(ctx, http.MethodGet, "/apis/discovery.k8s.io/v1/namespaces/"+space+"/endpointslices?labelSelector="+discoveryv1.LabelServiceName+"%3D"+name, nil, &list)
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			if e.Conditions.Terminating != nil && *e.Conditions.Terminating && e.Conditions.Serving != nil && *e.Conditions.Serving {
				return "terminating", nil
			}
		}
	}
	return "none", err
}
