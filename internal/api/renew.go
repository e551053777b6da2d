package api

import (
	"encoding/json"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"gatehouse/internal/cert"
)

// renew has a certificate ordered now.
func (a *server) renew(w http.ResponseWriter, r *http.Request) {
	want := strings.ToLower(r.PathValue("names"))
	done := []string{}
	for _, s := range a.Certificates() {
		if s.ID != want && !slices.Contains(s.Names, want) || len(s.Sources) == 0 {
			continue
		}
		if err := a.Renew(r.Context(), s.Issuer, s.ID); err != nil {
			fail(w, http.StatusServiceUnavailable, fmt.Sprintf("ask for %s: %v", s.ID, err))
			return
		}
		a.Logger.Info("certificate asked for", "id", s.ID, "issuer", s.Issuer, "client", r.RemoteAddr)
		done = append(done, s.ID)
	}
	if len(done) == 0 {
		fail(w, http.StatusNotFound, fmt.Sprintf("no certificate that is wanted is for %q; /api/certificates lists them", want))
		return
	}
	reply(w, http.StatusAccepted, map[string]any{"asked": done, "next": "see nextAttempt and journal at /api/certificates/" + want})
}

// changes says why a request that would change something is refused: a page of
// another site must not be able to make a browser send it.
func (a *server) changes(r *http.Request) string {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return "its content must be application/json"
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return "it comes from another site"
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		if err != nil || !strings.EqualFold(u.Host, r.Host) {
			return "it comes from the site " + origin
		}
	}
	if a.Unguarded && !isLocal(r.Host) {
		return fmt.Sprintf("it names the host %q, which may be a page's that leads here; ask by address or localhost, or set a password (entryPoints.NAME.auth)", r.Host)
	}
	return ""
}

// isLocal tells addresses and localhost (RFC 6761, section 6.3) from names that
// anybody may have lead here.
func isLocal(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	return net.ParseIP(host) != nil || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// revoke has the certificates of a name revoked: {"reason": "keyCompromise",
// "stop": false}, both may be left out.
func (a *server) revoke(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Reason string
		Stop   bool
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil {
		fail(w, http.StatusBadRequest, fmt.Sprintf("the body is not {\"reason\": ..., \"stop\": ...}: %v", err))
		return
	}
	reason, err := cert.ParseReason(body.Reason)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	want := strings.ToLower(r.PathValue("names"))
	done := []string{}
	for _, s := range a.Certificates() {
		if s.ID != want && !slices.Contains(s.Names, want) || s.Serial == "" {
			continue
		}
		if err := a.Revoke(r.Context(), s.Issuer, s.ID, reason, body.Stop); err != nil {
			fail(w, http.StatusServiceUnavailable, fmt.Sprintf("ask for %s: %v", s.ID, err))
			return
		}
		a.Logger.Info("certificate to be revoked", "id", s.ID, "issuer", s.Issuer, "reason", reason, "stop", body.Stop, "client", r.RemoteAddr)
		done = append(done, s.ID)
	}
	if len(done) == 0 {
		fail(w, http.StatusNotFound, fmt.Sprintf("no certificate is kept for %q; /api/certificates lists them", want))
		return
	}
	reply(w, http.StatusAccepted, map[string]any{"asked": done, "next": "see revocation at /api/certificates/" + want})
}
