package setting

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func env(pairs ...string) func(string) string {
	return func(n string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == n {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestText(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		given map[string]string
		env   []string
		want  string
		says  string
	}{
		{name: "none"},
		{name: "environment", env: []string{"CF_TOKEN", "e"}, want: "e"},
		{name: "other name", env: []string{"CLOUDFLARE_TOKEN", "e"}, want: "e"},
		{name: "both alike", env: []string{"CF_TOKEN", "e", "CLOUDFLARE_TOKEN", "e"}, want: "e"},
		{name: "both, differing", env: []string{"CF_TOKEN", "e", "CLOUDFLARE_TOKEN", "f"}, want: "e",
			says: "CF_TOKEN and CLOUDFLARE_TOKEN are both set and differ: keep one"},
		{name: "given wins", given: map[string]string{"CLOUDFLARE_TOKEN": "g"}, env: []string{"CF_TOKEN", "e"}, want: "g"},
		{name: "file", env: []string{"CF_TOKEN_FILE", file}, want: "from file"},
		{name: "no file", env: []string{"CF_TOKEN_FILE", file + "x"}, says: "read CF_TOKEN_FILE: open " + file + "x"},
		{name: "unknown", given: map[string]string{"CF_TOKN": "g"}, says: `unknown setting "CF_TOKN", did you mean CF_TOKEN? (known: CF_TOKEN, `},
		{name: "unknown by far", given: map[string]string{"foo": "g"}, says: `unknown setting "foo" (known: CF_TOKEN, `},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Read(Source{Given: c.given, Getenv: env(c.env...)})
			if got := r.Text("CF_TOKEN", "CLOUDFLARE_TOKEN"); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			err := r.Err()
			if (err == nil) != (c.says == "") || err != nil && !strings.HasPrefix(err.Error(), c.says) {
				t.Errorf("error %v, want %q", err, c.says)
			}
		})
	}
}

func TestKinds(t *testing.T) {
	var log bytes.Buffer
	r := Read(Source{Logger: slog.New(slog.NewTextHandler(&log, nil)), Getenv: env("A_YES", "true", "A_NO", "0", "A_ODD", "perhaps", "A_S", "7", "A_D", "1m30s",
		"A_NEVER", "-1", "A_TTL", "60", "A_PERSON", "me"), Environ: []string{"A_YES=true", "A_YESS=true", "HOME=/", "A_LONG_ENOUHG=x"}})
	got := []any{r.Bool("A_YES"), r.Bool("A_NO"), r.Bool("A_NONE"), r.Bool("A_ODD"), r.Duration(0, "A_S"), r.Duration(0, "A_D"),
		r.Duration(time.Second, "A_NONE"), r.Duration(time.Second, "A_NEVER"), r.Need("the key", "A_KEY", "B_KEY")}
	if diff := cmp.Diff([]any{true, false, false, false, 7 * time.Second, 90 * time.Second, time.Second, time.Second, ""}, got); diff != "" {
		t.Error(diff)
	}
	r.Text("A_LONG_ENOUGH")
	r.Tuning("A_")
	r.Refuse("use a key", "A_PERSON")
	want := strings.Join([]string{`A_ODD="perhaps": must be true or false`, `A_NEVER="-1": must be a time like 30 (seconds) or 1m30s`,
		"A_PERSON is set, which is not supported: use a key", "unknown environment variable A_LONG_ENOUHG: did you mean A_LONG_ENOUGH?"}, "\n")
	if err := r.Err(); err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
	if !strings.Contains(log.String(), "setting=A_TTL") || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("log %q", log.String())
	}
	r = Read(Source{})
	r.Need("the key", "A_KEY", "B_KEY")
	if err := r.Err(); err == nil || err.Error() != "A_KEY (or B_KEY) is not set: the key" {
		t.Error(err)
	}
}

// TestMisspelt: a variable of another program is no reason not to start.
func TestMisspelt(t *testing.T) {
	var log bytes.Buffer
	r := Read(Source{Logger: slog.New(slog.NewTextHandler(&log, nil)), Getenv: env(), Environ: []string{"A_LONG_NAMES=x", "B_LONG_NAME=x", "A_LONG_NAME_FILE="}})
	r.Text("A_LONG_NAME")
	if err := r.Err(); err != nil || !strings.Contains(log.String(), "variable=A_LONG_NAMES known=A_LONG_NAME") || strings.Count(log.String(), "\n") != 1 {
		t.Error(err, log.String())
	}
}
