// Package setting reads the settings of DNS providers: those given in the
// configuration first, then the environment, under the names other tools know
// them by. It owns their look-up and the complaints about them; what they mean
// is the business of each provider.
package setting

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Source is where settings come from.
type Source struct {
	Given   map[string]string   // from the configuration, by the names the environment has; they win
	Getenv  func(string) string // os.Getenv
	Environ []string            // os.Environ(), to find misspelt names; may be nil
	Logger  *slog.Logger        // nil: silent
}

// fileSuffix at a name makes it that of a file with the value.
const fileSuffix = "_FILE"

// Reader reads one provider's settings and collects all complaints, so that a
// person sees them at once. It is used by one goroutine.
type Reader struct {
	src   Source
	known map[string]bool
	errs  []error
}

// Read makes a reader.
func Read(src Source) *Reader { return &Reader{src: src, known: map[string]bool{}} }

// Text gives the value of a setting, the first name being its proper one; ""
// if it is not set. NAME_FILE names a file that holds the value. Two names
// with two values are a mistake.
func (r *Reader) Text(names ...string) string {
	for _, get := range []func(string) string{func(n string) string { return r.src.Given[n] }, r.src.Getenv} {
		if get == nil {
			continue
		}
		if v := r.one(get, names); v != "" {
			r.note(names)
			return v
		}
	}
	r.note(names)
	return ""
}

// Need is Text for a setting that must be there; meaning says what it is.
func (r *Reader) Need(meaning string, names ...string) string {
	v := r.Text(names...)
	if v == "" && len(r.errs) == 0 {
		name := names[0]
		if len(names) > 1 {
			name += " (or " + strings.Join(names[1:], ", ") + ")"
		}
		r.Complain(fmt.Errorf("%s is not set: %s", name, meaning))
	}
	return v
}

// Bool is Text for yes or no.
func (r *Reader) Bool(names ...string) bool {
	v := r.Text(names...)
	if v == "" {
		return false
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		r.Complain(fmt.Errorf("%s=%q: must be true or false", names[0], v))
	}
	return b
}

// Duration is Text for a time: "30", seconds, or "1m30s".
func (r *Reader) Duration(def time.Duration, names ...string) time.Duration {
	v := r.Text(names...)
	if v == "" {
		return def
	}
	d, err := time.ParseDuration(v)
	if n, bad := strconv.Atoi(v); bad == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d <= 0 {
		r.Complain(fmt.Errorf("%s=%q: must be a time like 30 (seconds) or 1m30s", names[0], v))
		return def
	}
	return d
}

// Ignored are names other tools know that are not in force here. Who set one
// is told by a warning.
func (r *Reader) Ignored(names ...string) {
	for _, n := range names {
		r.known[n] = true
		set := r.src.Given[n] != "" || r.src.Getenv != nil && r.src.Getenv(n) != ""
		if set && r.src.Logger != nil {
			r.src.Logger.Warn("setting of the DNS provider is not in force here; its page in docs/dns says what is", "setting", n)
		}
	}
}

// Tuning ignores the settings most providers of other tools have under a
// prefix: how long records live and how propagation is waited for is decided
// in one place here.
func (r *Reader) Tuning(prefixes ...string) {
	for _, p := range prefixes {
		r.Ignored(p+"TTL", p+"PROPAGATION_TIMEOUT", p+"POLLING_INTERVAL", p+"HTTP_TIMEOUT", p+"SEQUENCE_INTERVAL")
	}
}

// Refuse are names whose neglect would do something else than was wanted; set,
// they are a mistake. instead says what to do.
func (r *Reader) Refuse(instead string, names ...string) {
	for _, n := range names {
		if r.Text(n) != "" {
			r.Complain(fmt.Errorf("%s is set, which is not supported: %s", n, instead))
		}
	}
}

// Complain adds a mistake.
func (r *Reader) Complain(err error) {
	if err != nil {
		r.errs = append(r.errs, err)
	}
}

// Err gives all complaints, among them names that are given and unknown. It is
// called when every setting has been read.
func (r *Reader) Err() error {
	known := slices.Sorted(maps.Keys(r.known))
	for _, n := range slices.Sorted(maps.Keys(r.src.Given)) {
		if !r.known[n] {
			r.errs = append(r.errs, fmt.Errorf("unknown setting %q%s (known: %s)", n, meant(n, known), strings.Join(known, ", ")))
		}
	}
	r.misspelt(known)
	return errors.Join(r.errs...)
}

// misspelt looks for variables that are almost one of ours. Other programs have
// variables too, so it is a mistake only if something is wrong anyway, and else
// a warning.
func (r *Reader) misspelt(known []string) {
	wrong := len(r.errs) > 0
	for _, pair := range r.src.Environ {
		n, _, _ := strings.Cut(pair, "=")
		near := nearest(n, known)
		switch {
		case r.known[n] || len(near) < 10 || !strings.HasPrefix(n, near[:3]) || r.src.Getenv(near) != "":
		case wrong:
			r.Complain(fmt.Errorf("unknown environment variable %s: did you mean %s?", n, near))
		case r.src.Logger != nil:
			r.src.Logger.Warn("environment variable is not known, but looks like one of the DNS provider's", "variable", n, "known", near)
		}
	}
}

func (r *Reader) note(names []string) {
	for _, n := range names {
		r.known[n], r.known[n+fileSuffix] = true, true
	}
}

func (r *Reader) one(get func(string) string, names []string) string {
	value, from := "", ""
	for _, name := range names {
		for _, n := range []string{name, name + fileSuffix} {
			v := get(n)
			if v == "" {
				continue
			}
			if n != name {
				raw, err := os.ReadFile(v)
				if err != nil {
					r.Complain(fmt.Errorf("read %s: %w", n, err))
					continue
				}
				v = strings.TrimSpace(string(raw))
			}
			if from != "" && v != value {
				r.Complain(fmt.Errorf("%s and %s are both set and differ: keep one", from, n))
				continue
			}
			value, from = v, n
		}
	}
	return value
}

func meant(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf(", did you mean %s?", near)
	}
	return ""
}

// nearest gives the known name at most two edits away; "" if there is none.
func nearest(name string, known []string) string {
	best, at := "", 3
	for _, k := range known {
		if strings.HasSuffix(k, fileSuffix) && !strings.HasSuffix(name, fileSuffix) {
			continue
		}
		if d := distance(strings.ToUpper(name), k); d < at {
			best, at = k, d
		}
	}
	return best
}

// distance counts the letters to insert, remove or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
