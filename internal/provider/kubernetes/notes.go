package kubernetes

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse/internal/config"
	"gatehouse/internal/traefik1"
)

// notes are what the annotations of an Ingress say about all of its paths.
type notes struct {
	written  written
	scheme   string // of its backends; "": as their ports say
	frontend tree   // settings in 1.x's form; no node: none
	weights  map[string]int
	broken   bool // its routes answer 503
	said     map[string]bool
}

// notes reads an Ingress's annotations and reports those that are wrong.
func (t *translation) notes(in *Ingress) *notes {
	n := &notes{}
	var strangers []string
	if n.written, strangers = read(in.Annotations, onIngress); n.written == nil && strangers == nil {
		return n
	}
	n.frontend = newTree(originOf(in, "metadata.annotations"))
	for _, key := range strangers {
		if protects(key) {
			t.refuse(in, n, key, "is not known here, and without it requests could pass that should not", "")
			continue
		}
		t.find(in, AnnotationProblem, config.Problem{Origin: originOf(in, key), Message: "the annotation is not known and is left aside", Warning: true})
	}
	for _, name := range slices.Sorted(maps.Keys(n.written)) {
		note := n.written[name]
		if trouble, allowed := note.put(n.frontend, originOf(in, note.key)); trouble != "" {
			t.refuse(in, n, note.key, trouble, allowed)
		}
	}
	t.auth(in, n)
	t.protocol(in, n)
	t.weights(in, n)
	return n
}

// refuse makes all routes of an Ingress answer 503.
func (t *translation) refuse(in *Ingress, n *notes, key, message, allowed string) {
	n.broken = true
	t.find(in, RouteRefused, config.Problem{Origin: originOf(in, key), Message: message + "; its routes answer 503", Allowed: allowed})
}

func (t *translation) protocol(in *Ingress, n *notes) {
	switch scheme := strings.ToLower(n.written.text("protocol")); scheme {
	case "", "http", "https", "h2c":
		n.scheme = scheme
	default:
		t.refuse(in, n, n.written["protocol"].key, fmt.Sprintf("is %q", scheme), "http, https or h2c")
	}
}

// auth reads who must say who they are. Whatever is not understood closes the
// routes.
func (t *translation) auth(in *Ingress, n *notes) {
	kind := strings.ToLower(n.written.text("auth-type"))
	o := originOf(in, n.written["auth-type"].key)
	switch kind {
	case "":
		for _, other := range []string{"auth-secret", "auth-url"} {
			if w, ok := n.written[other]; ok {
				t.refuse(in, n, w.key, "stands without auth-type", "auth-type: basic")
			}
		}
		return
	case "basic", "digest":
		users, trouble := t.users(in, n.written.text("auth-secret"))
		if trouble != "" {
			t.refuse(in, n, n.written["auth-type"].key, trouble, "auth-secret: a Secret of this namespace with one key, whose value is htpasswd lines")
			return
		}
		n.frontend.put("auth."+kind+".users", list(o, users))
		n.copy(in, "auth-remove-header", "auth."+kind+".removeHeader")
	case "forward":
		n.frontend.put("auth.forward.address", scalar(o, n.written.text("auth-url")))
		n.copy(in, "auth-trust-headers", "auth.forward.trustForwardHeader")
		n.copy(in, "auth-response-headers", "auth.forward.authResponseHeaders")
		n.copy(in, "auth-tls-insecure", "auth.forward.tls.insecureSkipVerify")
		t.authTLS(in, n)
	default:
		t.refuse(in, n, n.written["auth-type"].key, fmt.Sprintf("is %q", kind), "basic, digest or forward")
		return
	}
	n.copy(in, "auth-header-field", "auth.headerField")
}

// copy puts an annotation's text into the frontend.
func (n *notes) copy(in *Ingress, name, to string) {
	if w, ok := n.written[name]; ok {
		n.frontend.put(to, scalar(originOf(in, w.key), w.value))
	}
}

// users reads htpasswd lines out of a Secret.
func (t *translation) users(in *Ingress, secret string) (users []string, trouble string) {
	if secret == "" {
		return nil, "names no auth-secret"
	}
	s, err := t.secret(in, secret, false)
	switch {
	case err != nil:
		return nil, err.Error()
	case s == nil:
		return nil, fmt.Sprintf("there is no Secret %s/%s", in.Namespace, secret)
	case len(s.Data) != 1:
		return nil, fmt.Sprintf("Secret %s/%s has %d keys, one is wanted", in.Namespace, secret, len(s.Data))
	}
	for _, value := range s.Data {
		for line := range strings.Lines(string(value)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				users = append(users, line)
			}
		}
	}
	if len(users) == 0 {
		return nil, fmt.Sprintf("Secret %s/%s has no users", in.Namespace, secret)
	}
	return users, ""
}

func (t *translation) authTLS(in *Ingress, n *notes) {
	w, ok := n.written["auth-tls-secret"]
	if !ok {
		return
	}
	s, err := t.secret(in, strings.TrimSpace(w.value), true)
	switch {
	case err != nil:
		t.refuse(in, n, w.key, err.Error(), "")
	case s == nil:
		t.refuse(in, n, w.key, fmt.Sprintf("there is no Secret %s/%s", in.Namespace, w.value), "")
	default:
		o := originOf(in, w.key)
		n.frontend.put("auth.forward.tls.cert", scalar(o, string(s.Data[corev1.TLSCertKey])))
		n.frontend.put("auth.forward.tls.key", scalar(o, string(s.Data[corev1.TLSPrivateKeyKey])))
	}
}

// weights reads service-weights: shares in percent by Service.
func (t *translation) weights(in *Ingress, n *notes) {
	w, ok := n.written["service-weights"]
	if !ok {
		return
	}
	node, problems := config.ParseYAML(w.key, []byte(w.value))
	sum := 0
	weights := map[string]int{}
	if node != nil && !config.Failed(problems) {
		for _, f := range node.Fields {
			share, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(fmt.Sprint(f.Node.Value)), "%"), 64)
			if err != nil || share < 0 || share > 100 {
				sum = -1
				break
			}
			weights[f.Name] = int(share * 1000)
			sum += weights[f.Name]
		}
	}
	if sum <= 0 || sum > 100_000 {
		t.find(in, AnnotationProblem, config.Problem{Origin: originOf(in, w.key), Warning: true,
			Message: "is not a share in percent for each Service; they get the same", Allowed: "app-v1: 90%"})
		return
	}
	n.weights = weights
}

// weightsOf gives each backend its share; those that are not named share what
// is left.
func (n *notes) weightsOf(backends []networkingv1.IngressBackend) []int {
	weights := make([]int, len(backends))
	left, unnamed := 100_000, 0
	for i, b := range backends {
		weights[i] = -1
		if b.Service == nil {
			continue
		}
		if w, ok := n.weights[b.Service.Name]; ok {
			weights[i] = w
			left -= w
			continue
		}
		unnamed++
	}
	for i := range weights {
		if weights[i] < 0 {
			weights[i] = max(left, 0) / max(unnamed, 1)
		}
	}
	return weights
}

// tuning is what a Service's annotations say, in 1.x's form and as what it
// comes to.
type tuning struct {
	service  *Service
	empty    bool // they say nothing
	backend  tree
	balancer config.LoadBalancer
	findings []Finding
}

// tuningOf reads a Service's annotations; nil: it has none.
func (t *translation) tuningOf(s *Service) *tuning {
	if s == nil || len(s.Annotations) == 0 {
		return nil
	}
	if known := t.tunings[s.Name]; known != nil {
		return known
	}
	made := t.translator.tunings[s.Name]
	if made == nil || made.service != s && !maps.Equal(made.service.Annotations, s.Annotations) {
		made = newTuning(s)
	}
	t.tunings[s.Name] = made
	return made
}

func newTuning(s *Service) *tuning {
	w, strangers := read(s.Annotations, onService)
	origin := func(key string) config.Origin {
		return config.Origin{Provider: name, Source: "service " + s.Name.String(), Key: key}
	}
	made := &tuning{service: s, empty: w == nil, backend: newTree(origin("metadata.annotations"))}
	warn := func(key, message, allowed string) {
		made.find(config.Problem{Origin: origin(key), Object: "service " + s.Name.String(), Message: message, Allowed: allowed, Warning: true})
	}
	for _, key := range strangers {
		warn(key, "the annotation is not known and is left aside", "")
	}
	if w == nil {
		return made
	}
	for _, name := range slices.Sorted(maps.Keys(w)) {
		if trouble, allowed := w[name].put(made.backend, origin(w[name].key)); trouble != "" {
			warn(w[name].key, trouble+"; it is left aside", allowed)
		}
	}
	if on, _ := strconv.ParseBool(w.text("affinity")); on {
		made.backend.put("loadBalancer.stickiness.cookieName", scalar(origin(w["session-cookie-name"].key), w.text("session-cookie-name")))
		for name, key := range map[string]string{"session-secure": "secure", "session-http-only": "httpOnly", "session-same-site": "sameSite"} {
			if w.text(name) != "" {
				made.backend.put("loadBalancer.stickiness."+key, scalar(origin(w[name].key), w.text(name)))
			}
		}
	}
	made.translate()
	return made
}

func (tu *tuning) find(p config.Problem) {
	tu.findings = append(tu.findings, Finding{nil, AnnotationProblem, p})
}

func (tu *tuning) translate() {
	service := tu.service.Name.String()
	top := newTree(tu.backend.node.Origin)
	top.put("backends", newTree(tu.backend.node.Origin).node)
	backends := top.node.Get("backends")
	backends.Fields = append(backends.Fields, config.Field{Name: service, Node: tu.backend.node})
	routing, problems := traefik1.Translate(top.node)
	for _, p := range problems {
		tu.find(p)
	}
	if s, ok := routing.Services[service]; ok {
		tu.balancer = *s.LoadBalancer
	}
}
