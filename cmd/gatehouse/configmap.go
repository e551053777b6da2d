package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"gatehouse/internal/config"
	"gatehouse/internal/kubeclient"
	"gatehouse/internal/store"
)

const (
	configMapFlag = "configmap"
	// configMapEvery is how often the ConfigMap is read: the right to get it by
	// name is all that is asked for.
	configMapEvery = 2 * time.Second
)

// configMapFiles are the keys that can be the configuration, the first there is.
var configMapFiles = []string{"gatehouse.toml", "gatehouse.yaml", "gatehouse.yml", "traefik.toml", "traefik.yaml", "traefik.yml"}

// configMap is a ConfigMap whose keys are files of a folder of this replica,
// the newest version without mistakes: what reads and follows files then does
// the rest.
type configMap struct {
	client          *kubeclient.Client
	namespace, name string
	args            []string // beside the file: flags
	dir             string
	copy            string // folder of this replica's copy of the last version in force; "": none
	log             *slog.Logger
	static          *config.Static // in force since the start
	replica         string
	seen            string // resource version

	mu      sync.Mutex
	pending string // what people should know; "" if the newest version is in force
	refused bool   // because it has mistakes
}

// takeConfigMap takes --configmap NAMESPACE/NAME out of the arguments.
func takeConfigMap(args []string) (where string, rest []string, err error) {
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		if !strings.HasPrefix(args[i], "-") || !strings.EqualFold(name, configMapFlag) {
			rest = append(rest, args[i])
			continue
		}
		if !joined {
			if i++; i == len(args) {
				return "", nil, usageError(errors.New("--configmap needs NAMESPACE/NAME"))
			}
			value = args[i]
		}
		where = value
	}
	if namespace, name, ok := strings.Cut(where, "/"); where != "" && (!ok || namespace == "" || name == "" || strings.Contains(name, "/")) {
		return "", nil, usageError(fmt.Errorf("--configmap %q is not NAMESPACE/NAME", where))
	}
	return where, rest, nil
}

// openConfigMap reads the ConfigMap for the first time, for as long as that
// takes, and writes its files. The caller calls close in the end.
func openConfigMap(ctx context.Context, where string, args []string, errOut io.Writer) (*configMap, error) {
	log := slog.New(slog.NewTextHandler(errOut, nil)) // what the log shall be stands in what is read here
	client, err := kubeclient.Open(kubeclient.Options{Logger: log})
	if err != nil {
		return nil, err
	}
	c := &configMap{client: client, args: args, log: log}
	c.namespace, c.name, _ = strings.Cut(where, "/")
	if c.dir, err = os.MkdirTemp("", "gatehouse-configmap-"); err != nil {
		return nil, fmt.Errorf("make a folder for the ConfigMap's files (where the root file system is read-only, mount an emptyDir at /tmp): %w", err)
	}
	c.copy = configMapCopy(where, args)
	var backoff store.Backoff
	for start := time.Now(); ; {
		object, err := kubeclient.ConfigMaps(client).Get(ctx, c.namespace, c.name)
		if err == nil {
			c.seen = object.ResourceVersion
			return c, c.write(c.dir, object)
		}
		if time.Since(start) > copyPatience && c.restore() {
			log.Warn("the configuration cannot be read; this replica's copy of it is used", "error", err, "next", configMapEvery)
			c.tell("the configuration is this replica's copy: "+err.Error(), false)
			return c, nil
		}
		next := backoff.Next()
		if backoff.News(err) {
			log.Warn("the configuration cannot be read; it is asked for until it can", "error", err, "next", next)
		}
		if !store.Sleep(ctx, next) {
			return nil, context.Cause(ctx)
		}
	}
}

// configMapCopy is where this replica keeps its copy: below the folder that flags
// and the environment say, or the usual one, as the rest is not known before it is
// read.
func configMapCopy(where string, args []string) string {
	loaded, _ := config.Load(config.LoadInput{Args: args, Environ: os.Environ(), Search: []string{}})
	if loaded.Static == nil || loaded.Static.Store == nil || loaded.Static.Store.CopyDirectory() == "" {
		return ""
	}
	return filepath.Join(loaded.Static.Store.CopyDirectory(), "configmap", strings.ReplaceAll(where, "/", "."))
}

// restore takes the files of the copy; false: there is none.
func (c *configMap) restore() bool {
	entries, err := os.ReadDir(c.copy)
	if c.copy == "" || err != nil || len(entries) == 0 {
		return false
	}
	kept := &corev1.ConfigMap{Data: map[string]string{}}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && strings.HasSuffix(e.Name(), ".new") {
			continue // half written
		}
		text, err := os.ReadFile(filepath.Join(c.copy, e.Name()))
		if err != nil {
			return false
		}
		kept.Data[e.Name()] = string(text)
	}
	return c.write(c.dir, kept) == nil
}

// save makes the copy what is in force.
func (c *configMap) save() {
	if c.copy == "" {
		return
	}
	now := &corev1.ConfigMap{Data: map[string]string{}}
	entries, err := os.ReadDir(c.dir)
	for _, e := range entries {
		if e.Type().IsRegular() {
			text, rerr := os.ReadFile(filepath.Join(c.dir, e.Name()))
			now.Data[e.Name()], err = string(text), errors.Join(err, rerr)
		}
	}
	if err = errors.Join(err, os.MkdirAll(c.copy, 0o700)); err == nil {
		err = c.write(c.copy, now)
	}
	if err != nil {
		c.log.Warn("no copy of the configuration is kept: this replica cannot start while the API server is away", "error", err, "key", "store.copy")
	}
}

func (c *configMap) close() {
	_ = os.RemoveAll(c.dir)
	_ = c.client.Close()
}

// file is the configuration's.
func (c *configMap) file(dir string) (string, error) {
	var there []string
	for _, name := range configMapFiles {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		there = append(there, e.Name())
	}
	return "", errors.Join(err, fmt.Errorf("read ConfigMap %s/%s: it has none of the keys %s (it has %s)", c.namespace, c.name,
		strings.Join(configMapFiles, ", "), strings.Join(there, ", ")))
}

// write makes the files of dir those of the ConfigMap, each at once.
func (c *configMap) write(dir string, object *corev1.ConfigMap) error {
	for _, name := range slices.Sorted(maps.Keys(object.Data)) {
		staged := filepath.Join(dir, "."+name+".new")
		if err := os.WriteFile(staged, []byte(object.Data[name]), 0o600); err != nil {
			return fmt.Errorf("write ConfigMap %s/%s: %w", c.namespace, c.name, err)
		}
		if err := os.Rename(staged, filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("write ConfigMap %s/%s: %w", c.namespace, c.name, err)
		}
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if _, stays := object.Data[e.Name()]; !stays && e.Type().IsRegular() {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// run follows the ConfigMap. The last version without mistakes stays in force
// whatever comes.
func (c *configMap) run(ctx context.Context) error {
	var backoff store.Backoff
	for store.Sleep(ctx, configMapEvery) {
		object, err := kubeclient.ConfigMaps(c.client).Get(ctx, c.namespace, c.name)
		if err != nil {
			if ctx.Err() == nil && backoff.News(err) {
				c.log.Warn("the configuration cannot be read; what was read before stays", "error", err, "next", configMapEvery)
			}
			continue
		}
		backoff.Reset()
		if object.ResourceVersion == c.seen {
			continue
		}
		c.seen = object.ResourceVersion
		c.take(ctx, object)
	}
	return nil
}

// take puts a version in force, or says why not.
func (c *configMap) take(ctx context.Context, object *corev1.ConfigMap) {
	loaded, err := c.check(object)
	if err == nil {
		applyBind(loaded.Static)
		if err = c.write(c.dir, object); err == nil {
			c.save()
		}
	}
	news := kubeclient.News{About: corev1.ObjectReference{
		APIVersion: "v1", Kind: "ConfigMap", Namespace: c.namespace, Name: c.name, UID: object.UID, ResourceVersion: object.ResourceVersion,
	}, Replica: c.replica, Action: "Load"}
	switch {
	case err != nil:
		c.log.Error("the changed configuration has mistakes; the one before it stays in force", "configmap", c.namespace+"/"+c.name, "error", err)
		c.tell("the ConfigMap "+c.namespace+"/"+c.name+" has mistakes, the version before it is in force: "+err.Error(), true)
		news.Warning, news.Reason, news.Note = true, "ConfigurationRejected", "The version before stays in force: "+err.Error()
	case !config.SameSettings(loaded.Static, c.static):
		c.log.Warn("the changed configuration has static settings that differ; routes are in force at once, those after a restart", "configmap", c.namespace+"/"+c.name)
		c.tell("static settings of the ConfigMap "+c.namespace+"/"+c.name+" have changed and are in force after a restart", false)
		news.Warning, news.Reason, news.Note = true, "RestartNeeded", "Routes are in force; static settings that changed are after a restart."
	default:
		c.log.Info("the changed configuration is in force", "configmap", c.namespace+"/"+c.name)
		c.tell("", false)
		news.Reason, news.Note = "ConfigurationLoaded", "This version is in force."
	}
	if err := c.client.Tell(ctx, news); err != nil && ctx.Err() == nil {
		c.log.Info("no Event is written", "error", err)
	}
}

// check reads a version in a folder of its own.
func (c *configMap) check(object *corev1.ConfigMap) (config.Loaded, error) {
	dir, err := os.MkdirTemp(c.dir, ".check-")
	if err != nil {
		return config.Loaded{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := c.write(dir, object); err != nil {
		return config.Loaded{}, err
	}
	file, err := c.file(dir)
	if err != nil {
		return config.Loaded{}, err
	}
	loaded, problems := config.Load(config.LoadInput{Args: append([]string{"-c", file}, c.args...), Environ: os.Environ()})
	var said []string
	for _, p := range problems {
		if !p.Warning {
			said = append(said, strings.ReplaceAll(p.String(), dir+"/", ""))
		}
	}
	if len(said) > 0 {
		return loaded, errors.New(strings.Join(said, "; "))
	}
	return loaded, nil
}

func (c *configMap) tell(pending string, refused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending, c.refused = pending, refused
}

// problems is what state says, for the API, the dashboard and the metrics.
func (c *configMap) problems() []config.Problem {
	message := c.state() // also of nil
	if message == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return []config.Problem{{
		Origin: config.Origin{Provider: "kubernetes", Source: "ConfigMap " + c.namespace + "/" + c.name}, Message: message, Warning: !c.refused,
	}}
}

// state is what /ready says beside yes or no; nil is no ConfigMap.
func (c *configMap) state() string {
	if c == nil {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending
}
