package suites

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

// TestTLS asks what testssl would: versions, suites, groups, protocols and
// tickets of an entry point with no settings of its own.
func TestTLS(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }))
	defer origin.Close()
	r := start(t, "", map[string]string{"/": origin.URL})
	dial := func(change func(*tls.Config)) (tls.ConnectionState, error) {
		c := r.tls()
		change(c)
		conn, err := tls.Dial("tcp", r.https, c)
		if err != nil {
			return tls.ConnectionState{}, err
		}
		defer conn.Close()
		return conn.ConnectionState(), nil
	}
	for version, ok := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		if _, err := dial(func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version }); (err == nil) != ok {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
	good := []uint16{ // with an ECDSA certificate
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	}
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if s.SupportedVersions[0] == tls.VersionTLS13 {
			continue
		}
		_, err := dial(func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{s.ID} })
		if (err == nil) != slices.Contains(good, s.ID) {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
	for group, ok := range map[tls.CurveID]bool{tls.X25519MLKEM768: true, tls.X25519: true, tls.CurveP256: true, tls.CurveP384: true, tls.CurveP521: false} {
		state, err := dial(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{group} })
		if (err == nil) != ok || ok && state.CurveID != group {
			t.Errorf("%s: %v, %s", group, err, state.CurveID)
		}
	}
	if state, err := dial(func(*tls.Config) {}); err != nil || state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 {
		t.Errorf("a client of today: %v, %s, %s", err, tls.VersionName(state.Version), state.CurveID)
	}
	for _, c := range []struct {
		offered []string
		want    string
		ok      bool
	}{
		{[]string{"h2", "http/1.1"}, "h2", true}, {[]string{"http/1.1", "h2"}, "h2", true}, {[]string{"http/1.1"}, "http/1.1", true},
		{nil, "", true}, {[]string{"h3"}, "", false}, {[]string{"http/1.0"}, "", false}, {[]string{"acme-tls/1"}, "", false},
	} {
		state, err := dial(func(config *tls.Config) { config.NextProtos = c.offered })
		if (err == nil) != c.ok || state.NegotiatedProtocol != c.want {
			t.Errorf("offered %q: %q, %v", c.offered, state.NegotiatedProtocol, err)
		}
	}
	resumes(t, r)
}

// resumes: sessions go on by ticket, in both versions, and not for another
// server name's certificate.
func resumes(t *testing.T, r *router) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := r.tls()
		config.MinVersion, config.MaxVersion = version, version
		config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		for i := range 2 {
			tr := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
			resp, err := (&http.Client{Transport: tr}).Get("https://" + r.https)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.TLS.DidResume != (i == 1) {
				t.Errorf("%s, connection %d: resumed %t", tls.VersionName(version), i, resp.TLS.DidResume)
			}
		}
	}
}
