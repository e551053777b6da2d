package route

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Head is what rules look at: the head of one request. It belongs to the
// goroutine that matches; strings are not kept.
type Head struct {
	Method     string
	Host       string // as received: any case, with or without port and trailing dot
	Path       string // decoded and normalised by the entry point
	RawQuery   string
	Header     http.Header // canonical names
	Fields     Fields      // instead of Header, where there is none; nil: no fields
	RemoteAddr string      // "ip:port" or "ip" of the peer

	host string // cleaned, once per match
}

// Fields are the header fields of a request that has no http.Header.
type Fields interface {
	// Field gives the value of the nth line, from 0, of a field by its
	// canonical name; ok is false where there are not so many.
	Field(name string, nth int) (value string, ok bool)
}

// header reports whether some value of a field satisfies ok.
func (h *Head) header(name string, ok func(value string) bool) bool {
	if h.Fields == nil {
		return slices.ContainsFunc(h.Header[name], ok)
	}
	for n := 0; ; n++ {
		v, found := h.Fields.Field(name, n)
		if !found {
			return false
		}
		if ok(v) {
			return true
		}
	}
}

func (h *Head) clientIP() (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(h.RemoteAddr); err == nil {
		return ap.Addr().WithZone("").Unmap(), true
	}
	a, err := netip.ParseAddr(h.RemoteAddr)
	return a.WithZone("").Unmap(), err == nil
}

// query reports whether some value of key satisfies ok. Pairs that
// url.ParseQuery would refuse are passed over, as it does.
func (h *Head) query(key string, ok func(value string) bool) bool {
	for pair := range strings.SplitSeq(h.RawQuery, "&") {
		if pair == "" || strings.IndexByte(pair, ';') >= 0 {
			continue
		}
		k, v, _ := strings.Cut(pair, "=")
		k, good := unescape(k)
		if !good || k != key {
			continue
		}
		if v, good = unescape(v); good && ok(v) {
			return true
		}
	}
	return false
}

func unescape(s string) (string, bool) {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s, true
	}
	u, err := url.QueryUnescape(s)
	return u, err == nil
}
