package api

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
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
func changes(r *http.Request) string {
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
	return ""
}
