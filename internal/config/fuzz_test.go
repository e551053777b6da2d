package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// seeds adds the files of all stories with one of the endings.
func seeds(f *testing.F, add func(text []byte), endings ...string) {
	paths, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || paths == nil {
		f.Fatal("no stories", err)
	}
	for _, path := range paths {
		ar, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range ar.Files {
			if slices.Contains(endings, filepath.Ext(file.Name)) || slices.Contains(endings, file.Name) {
				add(file.Data)
			}
		}
	}
}

// checkParsed holds whatever the text: every problem has a place in the
// source, every node one inside the text, and all that follows does not panic.
func checkParsed(t *testing.T, text []byte, n *Node, problems []Problem) {
	lines := strings.Count(string(text), "\n") + 1
	inside := func(o Origin) bool { return o.Line >= 1 && o.Line <= lines && o.Column >= 1 && o.Column <= len(text)+1 }
	for _, p := range problems {
		if p.Message == "" || p.Origin.Source != "fuzz" {
			t.Errorf("a problem without a place: %#v", p)
		}
	}
	if n == nil {
		if problems == nil {
			t.Error("neither a node nor a problem")
		}
		return
	}
	var walk func(n *Node, depth int)
	walk = func(n *Node, depth int) {
		if depth > 2*maxDepth {
			t.Fatal("too deep")
		}
		if !inside(n.Origin) {
			t.Errorf("a node outside the text: %v of %d lines", n.Origin, lines)
		}
		for _, f := range n.Fields {
			if f.Node == nil || !inside(f.Origin) {
				t.Errorf("a field outside the text, or empty: %q %v", f.Name, f.Origin)
				continue
			}
			walk(f.Node, depth+1)
		}
		for _, item := range n.Items {
			walk(item, depth+1)
		}
	}
	walk(n, 0)
	static, rest := splitRouting(n)
	s, _ := decodeLayers([]*Node{static}, "")
	s.Normalize()
	r, _ := ParseRouting(rest, "fuzz")
	Merge(map[string]Routing{"fuzz": r, "again": r})
}

func FuzzParseTOML(f *testing.F) {
	seeds(f, func(text []byte) { f.Add(text) }, ".toml")
	f.Add([]byte("a = [[[[[[]]]]]]\nb = 1979-05-27T07:32:00Z\nc = inf\nd = 010\n\"e f\".g = '''x'''\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		n, problems := ParseTOML("fuzz", text)
		checkParsed(t, text, n, problems)
	})
}

func FuzzParseYAML(f *testing.F) {
	seeds(f, func(text []byte) { f.Add(text) }, ".yaml", ".yml")
	f.Add([]byte("? a\n: - b\n  - !!str c\n- |\n  x\n&a b: *a\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		n, problems := ParseYAML("fuzz", text)
		checkParsed(t, text, n, problems)
	})
}

func FuzzParseFlags(f *testing.F) {
	seeds(f, func(text []byte) { f.Add(string(text)) }, "args", "env")
	f.Fuzz(func(t *testing.T, lines string) {
		args := strings.Split(lines, "\n")
		flags, _, _ := ParseFlags(args, OwnFlag{Name: "own", TakesValue: true}, OwnFlag{Name: "bare"})
		env, _, _ := ParseEnv(args)
		s, _ := decodeLayers([]*Node{env, flags}, "")
		s.Normalize()
	})
}

// Nesting and aliases without bound are refused, with a place.
func TestParseBounds(t *testing.T) {
	deep := func(open, shut string, n int) string { return strings.Repeat(open, n) + strings.Repeat(shut, n) }
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 10; i++ {
		prev := fmt.Sprintf("*a%d", i-1)
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(prev+", ", 10), ", "))
	}
	for name, c := range map[string]struct {
		parse func(string, []byte) (*Node, []Problem)
		text  string
		want  string
	}{
		"TOML arrays":  {ParseTOML, "a = " + deep("[", "]", 100), "nested too deeply"},
		"TOML header":  {ParseTOML, "[a" + strings.Repeat(".a", 100) + "]", "nested too deeply"},
		"TOML inline":  {ParseTOML, "a = " + strings.Repeat("{a=", 100) + "1" + strings.Repeat("}", 100), "nested too deeply"},
		"TOML huge":    {ParseTOML, strings.Repeat("#", maxFileSize+1), "file too large"},
		"TOML binary":  {ParseTOML, "a = 1\nb = \"\xff\"", "not UTF-8"},
		"YAML flow":    {ParseYAML, "a: " + deep("[", "]", 50000), "nested too deeply"},
		"YAML flow 65": {ParseYAML, "a: " + deep("[", "]", 65), "nested too deeply"},
		"YAML block":   {ParseYAML, strings.Repeat("- ", 100000) + "a", "nested too deeply"},
		"YAML lines":   {ParseYAML, indented(100), "nested too deeply"},
		"YAML bomb":    {ParseYAML, bomb, "makes the file too large"},
		"YAML binary":  {ParseYAML, "a: \xff", "not UTF-8"},
		"YAML list":    {ParseYAML, "- a", "a list where keys are wanted"},
	} {
		_, problems := c.parse("f", []byte(c.text))
		if len(problems) == 0 || !strings.Contains(problems[0].String(), c.want) {
			t.Errorf("%s: %v, want %s", name, problems, c.want)
		}
	}
	for name, parse := range map[string]func(string, []byte) (*Node, []Problem){"TOML": ParseTOML, "YAML": ParseYAML} {
		if n, problems := parse("f", nil); n == nil || len(n.Fields) > 0 || problems != nil {
			t.Errorf("empty %s: %v %v", name, n, problems)
		}
	}
}

func indented(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// A positions test by eye: keys and values of every shape.
func TestPositions(t *testing.T) {
	for ext, text := range map[string]string{
		".toml": "# c\na.b = [1, \"x\"]\n\"q k\" =  {\"ü\" = 2, z = [3]}\n[t]\nmulti = \"\"\"\nx\"\"\"\n[[l]]\n[[l]]\nk=1\r\n",
		".yaml": "# c\na:\n  b: [1, x]\nq k:  {ü: 2, z: [3]}\nt:\n  multi: |\n    x\nl:\n  - {}\n  - k: 1\n",
	} {
		path := filepath.Join(t.TempDir(), "f"+ext)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		n, problems := ParseFile(path)
		if problems != nil {
			t.Fatal(problems)
		}
		lines := strings.Split(text, "\n")
		at := func(o Origin) string { return lines[o.Line-1][o.Column-1:] }
		for _, c := range []struct{ path, key, value string }{
			{"a.b", "b", "["}, {"q k", "", "{"}, {"q k.ü", "", "2"}, {"q k.z", "z", "["}, {"t.multi", "multi", ""}, {"l", "l", ""},
		} {
			f := fieldAt(n, strings.Split(c.path, "."))
			if f == nil {
				t.Errorf("%s: no %s", ext, c.path)
				continue
			}
			if !strings.HasPrefix(at(f.Origin), c.key) || !strings.HasPrefix(at(f.Node.Origin), c.value) {
				t.Errorf("%s: %s: key at %q, value at %q", ext, c.path, at(f.Origin), at(f.Node.Origin))
			}
			if f.Node.Origin.Key != c.path {
				t.Errorf("%s: the key of %s is %q", ext, c.path, f.Node.Origin.Key)
			}
		}
		if got := n.Get("l").Items[1].Get("k").Origin; !strings.HasPrefix(at(got), "1") {
			t.Errorf("%s: l.1.k at %v", ext, got)
		}
	}
}

func fieldAt(n *Node, path []string) *Field {
	for i, name := range path {
		var found *Field
		for j := range n.Fields {
			if n.Fields[j].Name == name {
				found = &n.Fields[j]
			}
		}
		if found == nil || i == len(path)-1 {
			return found
		}
		n = found.Node
	}
	return nil
}
