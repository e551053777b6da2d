//go:build linux

package file

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse/internal/config"
	"gatehouse/internal/filewatch"
)

// sees waits until the routers are those named.
func (h *heard) sees(t *testing.T, routers ...string) time.Duration {
	t.Helper()
	var got []string
	start := time.Now()
	for time.Since(start) < 20*time.Second {
		h.mu.Lock()
		got = slices.Sorted(maps.Keys(h.routing.Routers))
		h.mu.Unlock()
		if slices.Equal(got, routers) {
			return time.Since(start)
		}
		time.Sleep(200 * time.Microsecond)
	}
	t.Fatalf("routers %v, want %v", got, routers)
	return 0
}

// runWatched waits until the provider has read and watches its files.
func runWatched(t *testing.T, o Options) *heard {
	t.Helper()
	o.Watch = true
	h := run(t, o)
	for h.count() == 0 {
		time.Sleep(time.Millisecond)
	}
	return h
}

// story changes files and says what is to be seen.
type story struct {
	name string
	file bool // the provider reads dir/routes.toml, else dir
	tell func(t *testing.T, dir string, h *heard)
}

func inPlace(t *testing.T, dir string, h *heard) {
	for i := range 5 {
		write(t, filepath.Join(dir, "routes.toml"), router(fmt.Sprint("r", i)))
		h.sees(t, fmt.Sprint("r", i))
	}
}

func replaced(t *testing.T, dir string, h *heard) {
	for i := range 5 {
		write(t, filepath.Join(dir, "fresh"), router(fmt.Sprint("r", i)))
		do(t, os.Rename(filepath.Join(dir, "fresh"), filepath.Join(dir, "routes.toml")))
		h.sees(t, fmt.Sprint("r", i))
	}
}

// asVim moves the old file away, then writes a new one.
func asVim(t *testing.T, dir string, h *heard) {
	path := filepath.Join(dir, "routes.toml")
	write(t, path, router("r"))
	h.sees(t, "r")
	for i := range 5 {
		do(t, os.Rename(path, path+"~"))
		write(t, path, router(fmt.Sprint("r", i)))
		do(t, os.Remove(path+"~"))
		h.sees(t, fmt.Sprint("r", i))
	}
}

// asKubelet swaps the link that all files lead through.
func asKubelet(t *testing.T, dir string, h *heard) {
	do(t, os.Mkdir(filepath.Join(dir, "..v0"), 0o700))
	write(t, filepath.Join(dir, "..v0", "routes.toml"), router("v0"))
	do(t, os.Symlink("..v0", filepath.Join(dir, "..data")))
	do(t, os.Symlink("..data/routes.toml", filepath.Join(dir, "routes.toml")))
	h.sees(t, "v0")
	for i := range 5 {
		version := fmt.Sprint("v", i+1)
		do(t, os.Mkdir(filepath.Join(dir, ".."+version), 0o700))
		write(t, filepath.Join(dir, ".."+version, "routes.toml"), router(version))
		do(t, os.Symlink(".."+version, filepath.Join(dir, "..data_tmp")))
		do(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		do(t, os.RemoveAll(filepath.Join(dir, fmt.Sprint("..v", i))))
		h.sees(t, version)
	}
}

// elsewhere: the file is a link to one that is changed where it stands.
func elsewhere(t *testing.T, dir string, h *heard) {
	away := filepath.Join(t.TempDir(), "away.txt")
	do(t, os.Symlink(away, filepath.Join(dir, "routes.toml"))) // leads nowhere yet
	time.Sleep(10 * time.Millisecond)
	for i := range 5 {
		write(t, away, router(fmt.Sprint("r", i)))
		h.sees(t, fmt.Sprint("r", i))
	}
	write(t, away+"~", router("new"))
	do(t, os.Rename(away+"~", away))
	h.sees(t, "new")
}

func folderAnew(t *testing.T, dir string, h *heard) {
	path := filepath.Join(dir, "routes.toml")
	write(t, path, router("one"))
	h.sees(t, "one")
	do(t, os.Rename(dir, dir+"-away"))
	h.hears(t, "cannot be read")
	h.sees(t, "one") // what it said last stays in force
	do(t, os.Mkdir(dir, 0o700))
	write(t, path, router("two"))
	h.sees(t, "two")
	do(t, os.RemoveAll(dir))
	do(t, os.RemoveAll(filepath.Dir(dir)))
	h.hears(t, "cannot be read")
	do(t, os.MkdirAll(dir, 0o700))
	write(t, path, router("three"))
	h.sees(t, "three")
	h.hears(t, "")
}

// hears waits until a problem says text; "" is none.
func (h *heard) hears(t *testing.T, text string) {
	t.Helper()
	var got string
	for start := time.Now(); time.Since(start) < 20*time.Second; time.Sleep(time.Millisecond) {
		h.mu.Lock()
		got = fmt.Sprint(h.problems)
		h.mu.Unlock()
		if strings.Contains(got, text) && (text != "" || got == "[]") {
			return
		}
	}
	t.Fatalf("problems %s, want %q", got, text)
}

func below(t *testing.T, dir string, h *heard) {
	deep := filepath.Join(dir, "a", "b")
	do(t, os.MkdirAll(deep, 0o700))
	write(t, filepath.Join(deep, "routes.toml"), router("one"))
	h.sees(t, "one")
	write(t, filepath.Join(dir, "routes.toml"), router("two"))
	h.sees(t, "one", "two")
	write(t, filepath.Join(deep, "routes.toml"), router("three"))
	h.sees(t, "three", "two")
	do(t, os.RemoveAll(filepath.Join(dir, "a")))
	h.sees(t, "two")
	do(t, os.Remove(filepath.Join(dir, "routes.toml")))
	h.sees(t)
}

// otherName changes the file through another of its names, as the text of a
// file that is mounted alone changes.
func otherName(t *testing.T, dir string, h *heard) {
	other := filepath.Join(t.TempDir(), "other")
	write(t, filepath.Join(dir, "routes.toml"), router("one"))
	do(t, os.Link(filepath.Join(dir, "routes.toml"), other))
	h.sees(t, "one")
	write(t, other, router("two"))
	h.sees(t, "two")
}

func emptied(t *testing.T, dir string, h *heard) {
	write(t, filepath.Join(dir, "routes.toml"), router("one"))
	h.sees(t, "one")
	write(t, filepath.Join(dir, "routes.toml"), "")
	h.sees(t)
}

// heldOpen: a writer that never closes its file is believed once it rests.
func heldOpen(t *testing.T, dir string, h *heard) {
	f, err := os.Create(filepath.Join(dir, "routes.toml"))
	do(t, err)
	defer f.Close()
	_, err = f.WriteString(router("open"))
	do(t, err)
	h.sees(t, "open")
}

// slowly: what a writer has not closed is not believed.
func slowly(t *testing.T, dir string, h *heard) {
	path := filepath.Join(dir, "routes.toml")
	write(t, path, router("one"))
	h.sees(t, "one")
	before := h.count()
	for range 3 {
		f, err := os.Create(path)
		do(t, err)
		for _, part := range []string{"", router("two"), router("three"), router("four")} {
			_, err = f.WriteString(part)
			do(t, err)
			time.Sleep(4 * interval)
			if h.count() != before {
				t.Fatal("half a file was believed")
			}
		}
		do(t, f.Close())
		h.sees(t, "four", "three", "two")
		write(t, path, router("one"))
		h.sees(t, "one")
		before = h.count()
	}
}

var stories = []story{
	{"in place", true, inPlace}, {"in place in a folder", false, inPlace},
	{"replaced", true, replaced}, {"replaced in a folder", false, replaced},
	{"as vim", true, asVim}, {"as vim in a folder", false, asVim},
	{"as kubelet", true, asKubelet}, {"as kubelet in a folder", false, asKubelet},
	{"elsewhere", true, elsewhere}, {"elsewhere from a folder", false, elsewhere},
	{"folder anew", false, folderAnew}, {"below", false, below},
	{"emptied", true, emptied}, {"held open", true, heldOpen}, {"held open in a folder", false, heldOpen},
	{"other name", true, otherName},
}

func tell(t *testing.T, s story, watches filewatch.Options) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "within", "routes")
	do(t, os.MkdirAll(dir, 0o700))
	o := Options{Directory: dir, Watches: watches}
	if s.file {
		o = Options{Filename: filepath.Join(dir, "routes.toml"), Watches: watches}
	}
	s.tell(t, dir, runWatched(t, o))
}

// TestStories runs each where the system tells of all changes, of some and of
// none.
func TestStories(t *testing.T) {
	for way, most := range map[string]int{"told": 0, "told of little": 1, "looked at": -1} {
		for _, s := range stories {
			t.Run(s.name+", "+way, func(t *testing.T) { tell(t, s, filewatch.Options{Most: most}) })
		}
	}
	t.Run("slowly", func(t *testing.T) { tell(t, story{file: true, tell: slowly}, filewatch.Options{}) })
	t.Run("slowly in a folder", func(t *testing.T) { tell(t, story{tell: slowly}, filewatch.Options{}) })
}

// TestAThousandChanges in a row: each is seen, and none half.
func TestAThousandChanges(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "routes.toml")
	const routers = 10
	text := func(n int) string {
		var s strings.Builder
		for i := range routers {
			s.WriteString(router(fmt.Sprintf("r%d-%d", i, n)))
		}
		return s.String()
	}
	write(t, path, text(0))
	h := &heard{}
	h.check = func(r config.Routing) {
		if len(r.Routers) != routers {
			t.Errorf("half a file was believed: %d routers", len(r.Routers))
		}
	}
	listen(t, Options{Directory: dir, Watch: true}, h)
	var took []time.Duration
	for n := range 1000 {
		if n%2 == 0 {
			write(t, path, text(n))
		} else {
			write(t, path+"~", text(n))
			do(t, os.Rename(path+"~", path))
		}
		took = append(took, h.seesOne(t, fmt.Sprintf("r0-%d", n)))
	}
	slices.Sort(took)
	t.Logf("seen after: median %s, p99 %s, longest %s", took[500], took[990], took[999])
}

// TestHastyWriter writes without waiting for anybody.
func TestHastyWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "routes.toml")
	text := func(n int) string { return router(fmt.Sprint("a", n)) + router(fmt.Sprint("b", n)) }
	write(t, path, text(0))
	h := &heard{}
	h.check = func(r config.Routing) {
		if len(r.Routers) != 2 {
			t.Errorf("half a file was believed: %d routers", len(r.Routers))
		}
	}
	listen(t, Options{Filename: path, Watch: true}, h)
	h.sees(t, "a0", "b0")
	for n := range 1000 {
		f, err := os.Create(path)
		do(t, err)
		whole := text(n)
		for _, part := range []string{whole[:len(whole)/2], whole[len(whole)/2:]} {
			_, err := f.WriteString(part)
			do(t, err)
		}
		do(t, f.Close())
	}
	h.sees(t, "a999", "b999")
}

func (h *heard) seesOne(t *testing.T, router string) time.Duration {
	t.Helper()
	start := time.Now()
	for time.Since(start) < 20*time.Second {
		h.mu.Lock()
		_, there := h.routing.Routers[router]
		h.mu.Unlock()
		if there {
			return time.Since(start)
		}
		time.Sleep(100 * time.Microsecond)
	}
	t.Fatalf("router %s is never seen", router)
	return 0
}

// TestPipe: something that is no file does not stop the others.
func TestPipe(t *testing.T) {
	dir := t.TempDir()
	do(t, unix.Mkfifo(filepath.Join(dir, "a.toml"), 0o600))
	write(t, filepath.Join(dir, "b.toml"), router("b"))
	h := runWatched(t, Options{Directory: dir})
	h.sees(t, "b")
	h.mu.Lock()
	problems := fmt.Sprint(h.problems)
	h.mu.Unlock()
	if !strings.Contains(problems, "a.toml: cannot be read: it is no regular file") {
		t.Errorf("problems %s", problems)
	}
	do(t, os.Remove(filepath.Join(dir, "a.toml")))
	write(t, filepath.Join(dir, "c.toml"), router("c"))
	h.sees(t, "b", "c")
}
