package kubernetes

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"gatehouse/internal/config"
)

// Labels of Secrets that hold certificates of ours: those are kept by the
// certificate keeper, not read as somebody else's.
const (
	managedBy = "app.kubernetes.io/managed-by"
	us        = "gatehouse"
)

// Annotations that wish for a certificate.
var wishes = []string{"cert-manager.io/cluster-issuer", "cert-manager.io/issuer", "certmanager.k8s.io/cluster-issuer", "certmanager.k8s.io/issuer"}

const acmeAnnotation = "kubernetes.io/tls-acme"

// checked is what is known about the certificate in a Secret.
type checked struct {
	secret *Secret
	names  []string
	err    error
}

// certificate reads a Secret's certificate, or remembers having done so.
func (tr *Translator) certificate(s *Secret) checked {
	if known, ok := tr.certificates[s.Name]; ok && known.secret == s {
		return known
	}
	c := checked{secret: s}
	pair, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey])
	if err == nil {
		var leaf *x509.Certificate
		if leaf, err = x509.ParseCertificate(pair.Certificate[0]); err == nil {
			for _, n := range leaf.DNSNames {
				c.names = append(c.names, cleanHost(n))
			}
		}
	}
	c.err = err
	tr.certificates[s.Name] = c
	return c
}

// tls gives the certificates an Ingress brings, and wishes for those it names
// hosts for and has no Secret of.
func (t *translation) tls(in *Ingress) {
	acme := strings.ToLower(in.Annotations[acmeAnnotation])
	asked, resolver := t.issuer(in)
	asked = asked || acme == "true"
	for i, entry := range in.Spec.TLS {
		o := originOf(in, fmt.Sprintf("spec.tls[%d]", i))
		if entry.SecretName != "" && t.brought(in, entry.SecretName, o) {
			continue
		}
		hosts := t.owned(in, entry.Hosts)
		if len(entry.Hosts) == 0 {
			hosts = t.owned(in, ruleHosts(in))
		}
		if acme != "false" {
			t.wish(o, resolver, config.SecretName{Namespace: in.Namespace, Name: entry.SecretName}, hosts...)
		}
	}
	if asked && len(in.Spec.TLS) == 0 {
		for _, host := range t.owned(in, ruleHosts(in)) {
			t.wish(originOf(in, "spec.rules"), resolver, config.SecretName{}, host)
		}
	}
}

// issuer reads who shall issue, in cert-manager's words: an issuer there is the
// resolver of the same name here. One that is not here is told of, and whoever
// would issue anyway does: a certificate of another CA serves better than none.
func (t *translation) issuer(in *Ingress) (asked bool, resolver string) {
	for _, key := range wishes {
		named := in.Annotations[key]
		switch {
		case named == "":
			continue
		case slices.Contains(t.settings.Resolvers, named):
			return true, named
		case len(t.settings.Resolvers) > 0:
			t.find(in, IssuerUnknown, config.Problem{Origin: originOf(in, key), Warning: true, Allowed: strings.Join(t.settings.Resolvers, ", "),
				Message: fmt.Sprintf("there is no certificate resolver %q here; the default one issues", named)})
		}
		return true, ""
	}
	return false, ""
}

func ruleHosts(in *Ingress) []string {
	var hosts []string
	for _, r := range in.Spec.Rules {
		hosts = append(hosts, r.Host)
	}
	return hosts
}

// owned gives those hosts that the Ingress may speak for, cleaned, once each.
func (t *translation) owned(in *Ingress, hosts []string) []string {
	var list []string
	for _, h := range hosts {
		if h = cleanHost(h); h != "" && t.claims.allows(in, h) && !slices.Contains(list, h) {
			list = append(list, h)
		}
	}
	return list
}

func (t *translation) wish(o config.Origin, resolver string, secret config.SecretName, hosts ...string) {
	if len(hosts) > 0 {
		t.now.wishes = append(t.now.wishes, config.Wish{Origin: o, Domain: config.Domain{Main: hosts[0], SANs: hosts[1:]}, Resolver: resolver, Secret: secret})
	}
}

// brought takes a Secret's certificate for the hosts that are the Ingress's;
// a certificate for somebody else's host is not served there. false: there is
// no Secret, or it is one of ours, so a certificate may be wished for.
func (t *translation) brought(in *Ingress, secret string, o config.Origin) bool {
	s, err := t.secret(in, secret, true)
	name := Name{in.Namespace, secret}
	switch {
	case err != nil:
		t.find(in, SecretMissing, config.Problem{Origin: o, Message: err.Error() + "; another certificate is served", Warning: true})
		return true // it may be there
	case s == nil:
		t.find(in, SecretMissing, config.Problem{Origin: o, Warning: true,
			Message: fmt.Sprintf("there is no Secret %s; a certificate is asked for where a resolver is on", name)})
		return false
	case s.Ours:
		return false
	}
	c := t.translator.certificate(s)
	if c.err != nil {
		t.find(in, SecretUnusable, config.Problem{Origin: o, Message: fmt.Sprintf("Secret %s holds no certificate with its key: %v; another certificate is served", name, c.err),
			Allowed: "tls.crt and tls.key in PEM"})
		return true
	}
	hosts := t.coveredHosts(in, c.names)
	if len(hosts) == 0 {
		t.find(in, SecretUnusable, config.Problem{Origin: o, Warning: true, Allowed: strings.Join(c.names, ", "),
			Message: fmt.Sprintf("the certificate of Secret %s covers no host of this Ingress; it is not served", name)})
		return true
	}
	t.now.certificates = append(t.now.certificates, config.Certificate{
		Origin: o, CertFile: string(s.Data[corev1.TLSCertKey]), KeyFile: string(s.Data[corev1.TLSPrivateKeyKey]), Hosts: hosts,
	})
	return true
}

// coveredHosts are the names a certificate may be served for: hosts of the
// Ingress, and, if it has the routes without a host, names nobody has.
func (t *translation) coveredHosts(in *Ingress, names []string) []string {
	var hosts []string
	for _, host := range t.hosts(in) {
		if host != "" && t.claims.allows(in, host) && covered(names, host) {
			hosts = append(hosts, host)
		}
	}
	if slices.Contains(t.hosts(in), "") && t.claims.allows(in, "") {
		t.now.open = true
		for _, n := range names {
			if t.claims.over(n) == nil && !t.foreignBelow(in, n) {
				hosts = append(hosts, n)
			}
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

func covered(names []string, host string) bool {
	if slices.Contains(names, host) {
		return true
	}
	_, parent, ok := strings.Cut(host, ".")
	return ok && !strings.HasPrefix(host, "*.") && slices.Contains(names, "*."+parent)
}

// foreignBelow tells whether another namespace has a host under a wildcard.
func (t *translation) foreignBelow(in *Ingress, wildcard string) bool {
	parent, ok := strings.CutPrefix(wildcard, "*")
	if !ok {
		return false
	}
	for host, c := range t.claims {
		if _, rest, ok := strings.Cut(host, "."); ok && "."+rest == parent && c.owner.Namespace != in.Namespace {
			return true
		}
	}
	return false
}
