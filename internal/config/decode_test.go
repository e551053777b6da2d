package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type inner struct {
	A string `key:"a"`
	B int    `key:"b"`
}

func (i *inner) SetDefaults() { i.B = 7 }

type embedded struct {
	E string `key:"e"`
}

type everything struct {
	embedded
	Text     string            `key:"text"`
	On       bool              `key:"on"`
	Int      int               `key:"int"`
	Small    int8              `key:"small"`
	Unsigned uint16            `key:"unsigned"`
	Float    float64           `key:"float"`
	Span     Duration          `key:"span"`
	Std      time.Duration     `key:"std"`
	Secret   Secret            `key:"secret"`
	List     []string          `key:"list"`
	Numbers  []int             `key:"numbers"`
	Parts    []inner           `key:"parts"`
	Section  *inner            `key:"section"`
	Maybe    *bool             `key:"maybe"`
	Value    inner             `key:"value"`
	Named    map[string]inner  `key:"named"`
	Pointed  map[string]*inner `key:"pointed"`
	Texts    map[string]string `key:"texts"`
	Raw      *Node             `key:"raw"`
	Raws     map[string]*Node  `key:"raws"`
	Prefix   netip.Prefix      `key:"prefix"`
	Pair     *KeyPair          `key:"pair"`
	Untagged string
}

var ignoreNodes = cmp.Options{
	cmp.AllowUnexported(everything{}),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b *Node) bool { return (a == nil) == (b == nil) }),
}

// decodeTOML decodes a text on top of into.
func decodeTOML(t *testing.T, text string, into any, change func(*Node)) []string {
	t.Helper()
	n, problems := ParseTOML("f", []byte(text))
	if problems != nil {
		t.Fatal(problems)
	}
	if change != nil {
		change(n)
	}
	var out []string
	for _, p := range Decode(n, into) {
		out = append(out, p.String())
	}
	return out
}

func TestDecode(t *testing.T) {
	yes := true
	for _, c := range []struct {
		text string
		have everything
		want everything
	}{
		{text: `TEXT = "x"`, want: everything{Text: "x"}},
		{text: `e = "x"`, want: everything{embedded: embedded{E: "x"}}},
		{text: "int = 0x10\nsmall = -128\nunsigned = 65535\nfloat = 2", want: everything{Int: 16, Small: -128, Unsigned: 65535, Float: 2}},
		{text: "span = 3\nstd = \"1m\"", want: everything{Span: Duration(3 * time.Second), Std: time.Minute}},
		{text: `span = "90"`, want: everything{Span: Duration(90 * time.Second)}},
		{text: `list = ["a", "b"]`, have: everything{List: []string{"z"}}, want: everything{List: []string{"a", "b"}}},
		{text: `parts = [{}, {b = 1}]`, want: everything{Parts: []inner{{B: 7}, {B: 1}}}},
		{text: `section = true`, want: everything{Section: &inner{B: 7}}},
		{text: `section = true`, have: everything{Section: &inner{B: 1}}, want: everything{Section: &inner{B: 1}}},
		{text: `section = false`, have: everything{Section: &inner{B: 1}}, want: everything{}},
		{text: `[section]`, want: everything{Section: &inner{B: 7}}},
		{text: `section.a = "x"`, have: everything{Section: &inner{B: 1}}, want: everything{Section: &inner{A: "x", B: 1}}},
		{text: `maybe = true`, want: everything{Maybe: &yes}},
		{text: `value.b = 2`, have: everything{Value: inner{A: "x"}}, want: everything{Value: inner{A: "x", B: 2}}},
		{text: `named.x.a = "y"`, want: everything{Named: map[string]inner{"x": {A: "y", B: 7}}}},
		{
			text: `pointed.x.a = "y"`,
			have: everything{Pointed: map[string]*inner{"x": {B: 1}, "X": {B: 2}}},
			want: everything{Pointed: map[string]*inner{"x": {A: "y", B: 1}, "X": {B: 2}}},
		},
		{text: `pointed.x = false`, have: everything{Pointed: map[string]*inner{"x": {B: 1}}}, want: everything{Pointed: map[string]*inner{}}},
		{text: `texts = {B = "c"}`, want: everything{Texts: map[string]string{"B": "c"}}},
		{text: "raw = 3\nraws.x = {}", want: everything{Raw: &Node{}, Raws: map[string]*Node{"x": {}}}},
		{text: `prefix = "10.0.0.0/8"`, want: everything{Prefix: netip.MustParsePrefix("10.0.0.0/8")}},
		{text: `pair = {certFile = "a"}`, want: everything{Pair: &KeyPair{CertFile: "a"}}},
	} {
		got := c.have
		if problems := decodeTOML(t, c.text, &got, nil); problems != nil {
			t.Errorf("%s: %q", c.text, problems)
		}
		if diff := cmp.Diff(c.want, got, ignoreNodes); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.text, diff)
		}
	}
}

func TestDecodeWeak(t *testing.T) {
	for _, c := range []struct {
		text  string
		nanos bool
		want  everything
	}{
		{text: "on = \"1\"\nint = \" 5 \"\nfloat = \"0.5\"", want: everything{On: true, Int: 5, Float: 0.5}},
		{text: `on = "Enable"`, want: everything{On: true}},
		{text: `span = "2"`, want: everything{Span: Duration(2 * time.Second)}},
		{text: `span = "2000000000"`, nanos: true, want: everything{Span: Duration(2 * time.Second)}},
		{text: `span = "90s"`, nanos: true, want: everything{Span: Duration(90 * time.Second)}},
		{text: "span = \"\"\nint = \"\"\non = \"\"\ntext = \"\"\nlist = \"\"\nvalue = \"\"\nnamed = \"\"", nanos: true, want: everything{List: []string{}}},
		{text: `list = "a, 'b' ,,c"`, want: everything{List: []string{"a", "b", "c"}}},
		{text: `numbers = "1,2"`, want: everything{Numbers: []int{1, 2}}},
		{text: `list = {10 = "c", 2 = "b", 0 = "a"}`, want: everything{List: []string{"a", "b", "c"}}},
		{text: `parts = {0 = {a = "x"}}`, want: everything{Parts: []inner{{A: "x", B: 7}}}},
		{text: `section = ""`, want: everything{Section: &inner{B: 7}}},
		{text: `section = "true"`, want: everything{Section: &inner{B: 7}}},
		{text: `section = "off"`, want: everything{}},
		{text: `pair = "c,k"`, want: everything{Pair: &KeyPair{CertFile: "c", KeyFile: "k"}}},
		{text: `secret = "12"`, want: everything{Secret: "12"}},
	} {
		var got everything
		problems := decodeTOML(t, c.text, &got, func(n *Node) { n.Weak, n.Nanos = true, c.nanos })
		if problems != nil {
			t.Errorf("%s: %q", c.text, problems)
		}
		if diff := cmp.Diff(c.want, got, ignoreNodes); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.text, diff)
		}
	}
}

func TestDecodeProblems(t *testing.T) {
	for _, c := range []struct {
		text string
		weak bool
		want string
	}{
		{text: `txet = "x"`, want: `f:1:1: key txet: unknown key (did you mean text?)`},
		{text: `Untagged = "x"`, want: "unknown key"},
		{text: "text = 1", want: `f:1:8: key text: the number 1 where a text is wanted (write it in quotes: "...")`},
		{text: "secret = 1234", want: "key secret: another type where a text is wanted"},
		{text: `on = "true"`, want: `the text "true" where true or false is wanted`},
		{text: `int = 1.5`, want: "the number 1.5 where a whole number is wanted"},
		{text: `small = 128`, want: "128 is too large or too small"},
		{text: `unsigned = -1`, want: "-1 is too large or too small"},
		{text: `span = "1x"`, want: "where a duration is wanted (500ms, 10s"},
		{text: `span = true`, want: "true where a duration is wanted"},
		{text: `span = 9223372036854775807`, want: "too long a time"},
		{text: `list = "a"`, want: `the text "a" where a list is wanted (["a", "b"])`},
		{text: `list = ["a", 1]`, want: "f:1:14: key list.1: the number 1 where a text is wanted"},
		{text: `section = 1`, want: "the number 1 where a section is wanted (a section of keys, or true or false)"},
		{text: `section = "true"`, want: `the text "true" where a section is wanted`},
		{text: `value = true`, want: "true where a section is wanted"},
		{text: `named = [1]`, want: "a list where a section is wanted"},
		{text: `named.x.c = 1`, want: "f:1:9: key named.x.c: unknown key (did you mean a? known: a, b)"},
		{text: "a = 1\nvalue = {}", want: "f:1:1: key a: unknown key"},
		{text: "text = \"a\"\nTEXT = \"b\"", want: "f:2:1: key TEXT: given twice, first as text at f:1:1 (keys differ only in case)"},
		{text: `prefix = "x"`, want: "no '/'"},
		{text: `prefix = 1`, want: "the number 1 where a text is wanted"},
		{text: `maybe = 1`, want: "true or false"},
		{text: `pair = "x"`, weak: true, want: "not a certificate and its key"},
		{text: `int = "x"`, weak: true, want: `the text "x" where a whole number is wanted`},
		{text: `list = {a = "x"}`, weak: true, want: "a section where a list is wanted"},
	} {
		var got everything
		problems := decodeTOML(t, c.text, &got, func(n *Node) { n.Weak = c.weak })
		if len(problems) != 1 || !strings.Contains(problems[0], c.want) {
			t.Errorf("%s: got %q, want one with %q", c.text, problems, c.want)
		}
	}
}

// The parameters of a middleware are decoded on their own; messages still name
// the whole key.
func TestDecodeBelow(t *testing.T) {
	n, problems := ParseTOML("f", []byte("[http.middlewares.x.auth]\nusres = []\n"))
	if problems != nil {
		t.Fatal(problems)
	}
	params := n.Get("http").Get("middlewares").Get("x").Get("AUTH")
	var into struct {
		Users []string `key:"users"`
	}
	got := Decode(params, &into)
	want := "f:2:1: key http.middlewares.x.auth.usres: unknown key (did you mean users? known: users)"
	if len(got) != 1 || got[0].String() != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if got := Decode(nil, &into); got != nil {
		t.Errorf("nil node: %v", got)
	}
}

func TestSecretRedactsItself(t *testing.T) {
	s := struct {
		A Secret
		B *ClientTLS
		C []Secret
	}{A: "hunter2", B: &ClientTLS{Key: "hunter2"}, C: []Secret{"hunter2"}}
	asJSON, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "a", s.A, "all", s)
	for _, text := range []string{
		string(asJSON), log.String(), s.A.String(), fmt.Sprint(s.A), fmt.Sprintf("%s %q %v %x %d %#v", s.A, s.A, s.A, s.A, s.A, s.A),
		fmt.Sprintf("%+v %#v %v", s, s, s), fmt.Sprintf("%+v %#v", *s.B, *s.B),
	} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "68756e74") {
			t.Errorf("told: %s", text)
		}
	}
	if s.A.Reveal() != "hunter2" || Secret("").String() != "" {
		t.Error("Reveal or the empty secret is wrong")
	}
}

func TestUnquote(t *testing.T) {
	for in, want := range map[string]string{
		`"a"`: "a", ` 'a b' `: "a b", `"a`: `"a`, `"`: `"`, `""`: "", `"a","b"`: `"a","b"`, `'a"`: `'a"`, "a": "a",
	} {
		if got := unquote(in); got != want {
			t.Errorf("unquote(%s) = %s, want %s", in, got, want)
		}
	}
	p := KVProvider{Endpoint: ` "a:1", 'b:2' ,,c:3`}
	if got := p.Endpoints(); !slices.Equal(got, []string{"a:1", "b:2", "c:3"}) {
		t.Errorf("Endpoints() = %q", got)
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"endpiont", "endpoint", 1}, {"a", "", 1}, {"kitten", "sitting", 3}, {"abcdefgh", "x", 5}} {
		if got := distance(c.a, c.b, 5); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// Every deprecated key is in the table of renamed ones, every key of the
// tables is in the schema, and every section's defaults survive a round.
func TestTablesFitTheSchema(t *testing.T) {
	static := reflect.TypeFor[Static]()
	inTable := map[string]bool{}
	for _, r := range renamed {
		inTable[r.old] = true
	}
	for _, n := range notInForce {
		if _, at, _ := resolve(static, strings.Split(n.key, ".")); at >= 0 {
			t.Errorf("not in force, and not in the schema: %s", n.key)
		}
	}
	for old := range inTable {
		if _, at, _ := resolve(static, strings.Split(old, ".")); at >= 0 {
			t.Errorf("renamed, and not in the schema: %s", old)
		}
	}
	for _, key := range connection {
		if _, at, _ := resolve(static, strings.Split(key, ".")); at >= 0 {
			t.Errorf("a connection setting, and not in the schema: %s", key)
		}
	}
	var walk func(prefix string, t reflect.Type)
	walk = func(prefix string, typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice:
			walk(prefix, typ.Elem())
		case reflect.Map:
			walk(prefix+".*", typ.Elem())
		case reflect.Struct:
			for _, f := range fieldsOf(typ) {
				key := joinKey(prefix, f.name)
				if f.deprecated && !inTable[key] {
					t.Errorf("deprecated, and not in the table: %s", key)
				}
				if f.help == "" && !strings.HasPrefix(key, "acme.domains") {
					t.Errorf("no help: %s", key)
				}
				walk(key, f.typ)
			}
		}
	}
	walk("", static)
}

// A flag help that names a flag which does not exist would teach nonsense.
func TestFlagHelpIsTrue(t *testing.T) {
	var short, all strings.Builder
	if err := FlagHelp(&short, false); err != nil {
		t.Fatal(err)
	}
	if err := FlagHelp(&all, true); err != nil {
		t.Fatal(err)
	}
	_, lines, _ := strings.Cut(short.String(), "Flags for every day")
	if got := strings.Count(lines, "\n  --"); got != len(everyday) {
		t.Errorf("%d of %d flags for every day are shown", got, len(everyday))
	}
	_, lines, _ = strings.Cut(all.String(), "\nFlags\n")
	for line := range strings.Lines(lines) {
		name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "--"), " ")
		name = strings.ReplaceAll(name, "<name>", "x")
		if _, at, _ := resolve(reflect.TypeFor[Static](), strings.Split(name, ".")); at >= 0 {
			t.Errorf("the help names a flag that is none: %s", name)
		}
	}
}

func TestOwnFlags(t *testing.T) {
	own := []OwnFlag{{Name: "dry-run"}, {Name: "import-acme", TakesValue: true}, {Name: "force"}}
	n, info, problems := ParseFlags([]string{"--dry-run", "--import-acme", "/acme.json", "--force=false", "a", "-c", "f.toml", "--debug", "--", "-b"}, own...)
	if problems != nil {
		t.Fatal(problems)
	}
	want := FlagInfo{ConfigFile: "f.toml", Own: map[string]string{"dry-run": "true", "import-acme": "/acme.json"}, Args: []string{"a", "-b"}}
	if diff := cmp.Diff(want, info); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := n.Get("debug"); got == nil || got.Value != "true" {
		t.Errorf("debug = %v", got)
	}
	_, info, problems = ParseFlags([]string{"-h", "--help=all", "--dry-run=maybe"}, own...)
	if !info.Help || !info.HelpAll || len(problems) != 1 {
		t.Errorf("help: %+v, %v", info, problems)
	}
}

// The settings of the post come out the same from TOML and from YAML.
func TestPostTwinsAgree(t *testing.T) {
	var dumps []string
	for _, name := range []string{"post", "post-yaml"} {
		stories(t, "testdata/static/"+name+".txtar", func(t *testing.T, s *story) {
			l, problems := Load(LoadInput{Args: s.lines("args"), Search: []string{"."}})
			if Failed(problems) {
				t.Fatal(problems)
			}
			dumps = append(dumps, dumpStatic(l.Static))
		})
	}
	if diff := cmp.Diff(dumps[0], dumps[1]); diff != "" {
		t.Errorf("-TOML +YAML:\n%s", diff)
	}
}

func BenchmarkDecode(b *testing.B) {
	n, problems := ParseTOML("f", []byte(`prefixes = ["/a", "/b"]
interval = "10s"
on = true
[inner]
a = "x"
b = 3
`))
	if problems != nil {
		b.Fatal(problems)
	}
	b.ReportAllocs()
	for b.Loop() {
		var into struct {
			Prefixes []string `key:"prefixes"`
			Interval Duration `key:"interval"`
			On       bool     `key:"on"`
			Inner    *inner   `key:"inner"`
		}
		if problems := Decode(n, &into); problems != nil {
			b.Fatal(problems)
		}
	}
}

// A change in one router of ten thousand is parsed and merged whole.
func BenchmarkParseRouting(b *testing.B) {
	var text strings.Builder
	for i := range 10000 {
		fmt.Fprintf(&text, "[http.routers.r%d]\nrule = \"Host(`h%d.example.com`)\"\nservice = \"s%d\"\n", i, i, i)
		fmt.Fprintf(&text, "[http.services.s%d.loadBalancer]\nservers = [{ url = \"http://10.0.0.1\" }]\n", i)
	}
	b.ReportAllocs()
	for b.Loop() {
		n, problems := ParseTOML("f", []byte(text.String()))
		r, more := ParseRouting(n, "file")
		merged, last := Merge(map[string]Routing{"file": r})
		if len(problems)+len(more)+len(last) > 0 || len(merged.Routers) != 10000 {
			b.Fatal(problems, more, last)
		}
	}
}
