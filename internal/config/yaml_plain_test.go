package config

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const plainYAMLText = `# A comment.
---

http: # more
  routers:
    web: {rule: "Host(` + "`a.com`" + `) && Path(\"/\\\\\")", service: app, entryPoints: [http, https,], priority: 10}
    other:
        rule: Host(` + "`b.com`" + `) && PathPrefix(` + "`/x`" + `)   # and this
        service:   app@file
        tls: {}
        empty: []
        'it''s': "quoted"
    Grüße: Österreich
  services:
    app:
      loadBalancer:
        passHostHeader: true
        off: false
        nothing:
        servers:
        - url: http://10.0.0.1:8080
          weight: 0
        -
          url: http://10.0.0.2
        - {url: "http://10.0.0.3", name: c}
        - - nested
          - list
        -
        healthCheck:
          interval: 10s
          range: 10.0.0.0/8
          at: 10.0.0.1
          9: nine
tls:
    certificates:
      - certFile: /a/b.pem
        keyFile: ./not
`

// TestPlainYAML: what is read without the library is what the library reads.
func TestPlainYAML(t *testing.T) {
	text := strings.Replace(plainYAMLText, "./not", "/a/c.pem", 1)
	got, ok := parsePlainYAML("a.yaml", []byte(text))
	if !ok {
		t.Fatal("plain YAML is not understood")
	}
	want, problems := parseAnyYAML("a.yaml", []byte(text))
	if diff := cmp.Diff(want, got); diff != "" || problems != nil {
		t.Errorf("-library +ours, %v:\n%s", problems, diff)
	}
}

// TestNotPlainYAML is left to the library.
func TestNotPlainYAML(t *testing.T) {
	for _, text := range []string{
		"", "# only\n", "a", "- a", "a: b: c", "a: [b", "a: {b: c", "a: [b: c]", "a: {b}", "a: {b: }", "a: 'b", "a: 'b' c", "a: \"\\n\"", "a: b\n c",
		"a:\n  b: 1\n c: 2", "a: 1\n b: 2", "a: |\n  b", "a: >\n  b", "a: &b c", "a: *b", "a: !!str b", "<<: a", "? a", "a: ? b", "a: - b",
		"a: 1\na: 2", "a: {b: 1, b: 2}", "\ta: b", "a:\tb", "a: b\r\n", "\ufeffa: b", "a: b\u2028", "a: 0x10", "a: 010", "a: 1.5", "a: 1e3", "a: 2001-01-01",
		"a: .5", "a: -1", "a: ~", "a: yes", "a: Null", "a: NO", "a: 99999999999999999999", "a: b\n---\nc: d", "a: b\n...", "%YAML 1.2\n---\na: b", "a : b", "a:b",
		"a: #b\n c\n", "a: [b, #c\n]", "a: @b", "a: `b`", "a: %b", "a: 'b'\n  c", "a: {b: c}\n  d", "a:\n- b\n  - c", "a:\n  - b\n - c", "a:\n - b\n  c: d",
		"a: " + strings.Repeat("[", 100) + strings.Repeat("]", 100), strings.Repeat("a", 2000) + ": b",
	} {
		if n, ok := parsePlainYAML("a.yaml", []byte(text)); ok {
			t.Errorf("%q is understood: %+v", text, n)
		}
	}
}

// samePlainYAML says whether a text is understood, and checks that the library
// reads it alike.
func samePlainYAML(t *testing.T, text []byte) bool {
	t.Helper()
	got, ok := parsePlainYAML("fuzz", text)
	if !ok {
		return false
	}
	want, problems := parseAnyYAML("fuzz", text)
	if diff := cmp.Diff(want, got); diff != "" || problems != nil {
		t.Errorf("-library +ours of %q, %v:\n%s", text, problems, diff)
	}
	return true
}

// FuzzPlainYAML: whatever is understood, the library reads the same.
func FuzzPlainYAML(f *testing.F) {
	seeds(f, func(text []byte) { f.Add(text) }, ".yaml", ".yml")
	f.Add([]byte(plainYAMLText))
	f.Add([]byte("a: [{b: c:d, e: 'f'}, [g], h#i]\nj: k - l, m #n\n\"o\":\n  - p: q\n    r:\n    - s\n    -\n  -\n\n  - t\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if checkText("fuzz", text) == nil {
			samePlainYAML(t, text)
		}
	})
}

// TestPlainYAMLByChance puts together what matters in YAML.
func TestPlainYAMLByChance(t *testing.T) {
	parts := []string{
		"a", "b", "c", "key", "a: ", "b:", "c: d", "'d': ", "\"e\": ", ":", "?", "- ", "-", "- x", "#", " # c", " ", "  ", "    ", "\n", "\n", "\n", "\n  ",
		"\n  ", "\n    ", "\n- ", "\n  - ", "\n\n", "{", "}", "[", "]", "{}", "[]", ", ", ",", "'q'", "\"q\"", "''", "\"\\\"\"", "'", "\"", "\\", "1", "0", "10s", "1.2",
		"1.2.3", "-1", "true", "no", "null", "~", "x#y", "http://h:80", "`", "(", "é", "|", ">", "&", "*", "!", "%", "---", "...", "<<", "=",
	}
	random := rand.New(rand.NewPCG(1, 2))
	const texts = 30_000
	understood := 0
	for range texts {
		var b strings.Builder
		b.WriteString(parts[random.IntN(10)])
		for range random.IntN(16) {
			b.WriteString(parts[random.IntN(len(parts))])
		}
		if samePlainYAML(t, []byte(b.String())) {
			understood++
		}
	}
	if understood < texts/100 {
		t.Errorf("only %d of %d texts were understood", understood, texts)
	}
	t.Logf("%d of %d texts were understood", understood, texts)
}
