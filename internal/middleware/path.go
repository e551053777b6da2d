package middleware

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"gatehouse/internal/config"
	"gatehouse/internal/http1"
	"gatehouse/internal/wire"
)

// maxPattern bounds regular expressions: they come from tenants.
const maxPattern = 1 << 10

// pathEdit gives the new escaped path of a request, and what the server is told
// of the old one; ok is false where the path stays.
type pathEdit func(escaped string) (path, told string, ok bool)

// teller is the header in which the server is told; the zero value: in none.
type teller struct {
	name string
	add  bool // to what proxies before us said
}

// editPath makes a middleware of an edit. Path and RawPath stay consistent. An
// edited path that holds dot segments is refused: it would be read as another
// path than the one that was routed.
func editPath(tell teller, edit pathEdit) Middleware {
	return Middleware{Stage: stagePath(tell, edit), Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			path, told, ok := edit(r.URL.EscapedPath())
			if !ok {
				next.ServeHTTP(w, r)
				return
			}
			path, decoded, ok := settlePath(path)
			if !ok {
				http.Error(w, "400 path not allowed", http.StatusBadRequest)
				return
			}
			switch {
			case tell.add:
				r.Header.Add(tell.name, told)
			case tell.name != "":
				r.Header.Set(tell.name, told)
			}
			edited, u := *r, *r.URL
			u.Path, u.RawPath = decoded, ""
			if u.EscapedPath() != path {
				u.RawPath = path
			}
			edited.URL = &u
			edited.RequestURI = u.RequestURI()
			next.ServeHTTP(w, &edited)
		})
	}}
}

// stagePath is the second form.
func stagePath(tell teller, edit pathEdit) Stage {
	var set http1.Edit
	if tell.name != "" && !tell.add {
		set, _ = http1.NewEdit(tell.name, "-")
	}
	return Stage{Pass: func(x *wire.Exchange) bool {
		path, told, ok := edit(text(x.Req.Path()))
		if !ok {
			return true
		}
		if path, _, ok = settlePath(path); !ok {
			return false
		}
		if normal, why := http1.NormalPath(path, true); why != 0 || normal != path {
			return false
		}
		switch {
		case tell.add:
			ok = x.Req.Add(tell.name, told, x.Client)
		case tell.name != "":
			said := set.With(told)
			ok = x.Req.Edit(&said)
		}
		x.Req.EditPath(path)
		return ok
	}}
}

// settlePath brings an edited path to the form of all paths: with one slash in
// front. It is not ok where it cannot be decoded, or has dot segments.
func settlePath(path string) (escaped, decoded string, ok bool) {
	if path == "" || path[0] != '/' || strings.HasPrefix(path, "//") {
		path = "/" + strings.TrimLeft(path, "/")
	}
	decoded, err := url.PathUnescape(path)
	return path, decoded, err == nil && !hasDots(decoded)
}

// hasDots finds a segment that is "." or "..".
func hasDots(path string) bool {
	if path != "" && path[0] == '/' && !strings.Contains(path, "/.") {
		return false // as nearly always
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// escapePath brings a path as people write it to the escaped form requests
// have. A '%' starts an escape.
func escapePath(path string) (string, bool) {
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return "", false
	}
	u := url.URL{Path: decoded, RawPath: path}
	return u.EscapedPath(), true
}

// cutPath removes a decoded prefix from an escaped path. An escaped slash is
// no slash.
func cutPath(escaped, prefix string) (rest string, ok bool) {
	i := 0
	for j := range len(prefix) {
		if i >= len(escaped) {
			return "", false
		}
		c, size := escaped[i], 1
		if c == '%' && i+2 < len(escaped) {
			c, size = unhex(escaped[i+1])<<4|unhex(escaped[i+2]), 3
			if c == '/' {
				return "", false
			}
		}
		if c != prefix[j] {
			return "", false
		}
		i += size
	}
	return escaped[i:], true
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}

// pattern compiles a regular expression of a parameter.
func (e Env) pattern(key string, index int, text string) (*regexp.Regexp, []config.Problem) {
	if text == "" {
		return nil, []config.Problem{e.problemAt(key, index, "is missing or empty", `a regular expression, such as "^/api/(.*)"`)}
	}
	if len(text) > maxPattern {
		return nil, []config.Problem{e.problemAt(key, index, "regular expression too long", "at most 1024 bytes")}
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, []config.Problem{e.problemAt(key, index, err.Error(), "RE2 syntax")}
	}
	return re, nil
}
