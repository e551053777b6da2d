package middleware

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"

	"gatehouse/internal/config"
)

// Compress shortens answers for clients that accept it.
type Compress struct {
	Encodings            []string `key:"encodings"`            // in order of preference
	MinResponseBodyBytes int      `key:"minResponseBodyBytes"` // shorter answers stay as they are
	ExcludedContentTypes []string `key:"excludedContentTypes"`
	IncludedContentTypes []string `key:"includedContentTypes"` // not empty: only these
}

// Levels that cost about as much time as sending the saved bytes would.
const (
	gzipLevel   = 5
	brotliLevel = 4
)

// SetDefaults: gzip, and brotli for clients that prefer it.
func (p *Compress) SetDefaults() {
	p.Encodings = []string{"gzip", "br"}
	p.MinResponseBodyBytes = 512
}

// encoder is what gzip and brotli writers have in common.
type encoder interface {
	io.WriteCloser
	Flush() error
	Reset(w io.Writer)
}

// compressor is a built Compress.
type compressor struct {
	params   Compress
	included []string
	excluded []string
	pools    map[string]*sync.Pool
}

// Build makes the middleware.
func (p Compress) Build(env Env) (Middleware, []config.Problem) {
	var problems []config.Problem
	if len(p.Encodings) == 0 {
		return env.missing("encodings", "a list of gzip and br")
	}
	for i, name := range p.Encodings {
		if name != "gzip" && name != "br" {
			problems = append(problems, env.problemAt("encodings", i, fmt.Sprintf("%q is no encoding known here", name), "gzip, br"))
		}
	}
	if p.MinResponseBodyBytes < 0 || p.MinResponseBodyBytes > 1<<20 {
		problems = append(problems, env.problem("minResponseBodyBytes", "is out of range", "0 to 1048576"))
	}
	if len(p.IncludedContentTypes) > 0 && len(p.ExcludedContentTypes) > 0 {
		problems = append(problems, env.problem("includedContentTypes", "excludes excludedContentTypes", "one of the two"))
	}
	c := &compressor{params: p, pools: map[string]*sync.Pool{
		"gzip": {New: func() any { w, _ := gzip.NewWriterLevel(io.Discard, gzipLevel); return w }},
		"br":   {New: func() any { return brotli.NewWriterLevel(io.Discard, brotliLevel) }},
	}}
	var more []config.Problem
	c.included, more = mediaTypes(env, "includedContentTypes", p.IncludedContentTypes)
	problems = append(problems, more...)
	c.excluded, more = mediaTypes(env, "excludedContentTypes", p.ExcludedContentTypes)
	problems = append(problems, more...)
	return Middleware{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.serve(w, r, next) })
	}}, problems
}

func mediaTypes(env Env, key string, texts []string) ([]string, []config.Problem) {
	var list []string
	var problems []config.Problem
	for i, text := range texts {
		t, _, err := mime.ParseMediaType(text)
		if err != nil {
			problems = append(problems, env.problemAt(key, i, fmt.Sprintf("%q is no media type", text), "such as text/html"))
			continue
		}
		list = append(list, t)
	}
	return list, problems
}

func (c *compressor) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if r.Header["Upgrade"] != nil || strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		next.ServeHTTP(w, r)
		return
	}
	cw := &compressWriter{ResponseWriter: w, owner: c, head: r.Method == http.MethodHead}
	cw.encoding = c.choose(r.Header["Accept-Encoding"])
	next.ServeHTTP(cw, r)
	// After a panic nothing is finished: the answer must not look whole.
	cw.finish()
}

// choose picks the client's best encoding that we offer; ties go to the order
// configured (RFC 9110, section 12.5.3).
func (c *compressor) choose(accept []string) string {
	best, bestQ := "", 0.0
	for _, offer := range c.params.Encodings {
		if q := quality(accept, offer); q > bestQ {
			best, bestQ = offer, q
		}
	}
	if best != "" && quality(accept, "identity") > bestQ && named(accept, "identity") {
		return ""
	}
	return best
}

// quality gives the weight a client gives an encoding; 0 is refused.
func quality(accept []string, encoding string) float64 {
	rest := 0.0 // what * says
	for _, line := range accept {
		for part := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(part, ";")
			name = strings.TrimSpace(name)
			if name != "*" && !strings.EqualFold(name, encoding) && !(encoding == "gzip" && strings.EqualFold(name, "x-gzip")) {
				continue
			}
			q := 1.0
			if k, v, ok := strings.Cut(strings.TrimSpace(params), "="); ok && strings.EqualFold(strings.TrimSpace(k), "q") {
				q, _ = strconv.ParseFloat(strings.TrimSpace(v), 64) // unreadable: refused
			}
			if name != "*" {
				return q
			}
			rest = q
		}
	}
	return rest
}

func named(accept []string, encoding string) bool {
	for _, line := range accept {
		if strings.Contains(strings.ToLower(line), encoding) {
			return true
		}
	}
	return false
}

// eligible tells from an answer's head whether its body may be compressed.
func (c *compressor) eligible(status int, h http.Header) bool {
	switch {
	case status < 200, status == http.StatusNoContent, status == http.StatusNotModified, status == http.StatusPartialContent:
		return false
	case len(h["Content-Encoding"]) > 0 && h.Get("Content-Encoding") != "identity", len(h["Content-Range"]) > 0:
		return false
	case slices.ContainsFunc(h["Cache-Control"], func(v string) bool { return strings.Contains(strings.ToLower(v), "no-transform") }):
		return false
	}
	if length := h.Get("Content-Length"); length != "" {
		if n, err := strconv.ParseInt(length, 10, 64); err != nil || n < int64(c.params.MinResponseBodyBytes) {
			return false
		}
	}
	return c.worthwhile(h.Get("Content-Type"))
}

// worthwhile: not a stream of events, nor a form that is compressed itself.
func (c *compressor) worthwhile(contentType string) bool {
	t, _, _ := strings.Cut(contentType, ";")
	t = strings.ToLower(strings.TrimSpace(t))
	if strings.HasPrefix(t, "application/grpc") || t == "text/event-stream" {
		return false
	}
	if len(c.included) > 0 {
		return slices.Contains(c.included, t)
	}
	if slices.Contains(c.excluded, t) {
		return false
	}
	kind, form, _ := strings.Cut(t, "/")
	switch kind {
	case "video", "audio":
		return false
	case "image":
		return form == "svg+xml" || form == "bmp" || form == "x-icon" || form == "vnd.microsoft.icon" || form == "x-ms-bmp"
	case "font":
		return form != "woff" && form != "woff2"
	}
	switch t {
	case "application/zip", "application/gzip", "application/x-gzip", "application/zstd", "application/x-7z-compressed",
		"application/x-bzip2", "application/x-xz", "application/x-rar-compressed", "application/vnd.rar", "application/font-woff",
		"application/pdf", "application/java-archive":
		return false
	}
	return true
}
