package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// pod is one pod on the node, from its binding to its deletion.
type pod struct {
	node     *Node
	object   *corev1.Pod
	ip, link string
	dir      string

	ctx    context.Context
	cancel context.CancelFunc
	once   sync.Once
	ending chan struct{}

	mu       sync.Mutex
	grace    time.Duration
	process  *os.Process
	ready    bool
	restarts int
	since    time.Time
	status   any // to be written; nil: it is
}

func (p *pod) log() string { return filepath.Join(p.dir, "log") }

// end asks the pod to stop within grace; 0: now.
func (p *pod) end(grace time.Duration) {
	p.mu.Lock()
	p.grace = grace
	p.mu.Unlock()
	p.once.Do(func() { close(p.ending) })
	if grace == 0 {
		p.cancel()
	}
}

func (p *pod) kill() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.process != nil && p.process.Kill() == nil
}

// run is the pod's life.
func (p *pod) run() {
	defer p.gone()
	go p.report()
	c, err := p.prepare()
	for err != nil {
		p.tell("Pending", "ContainersNotReady", err.Error(), nil)
		select {
		case <-p.ending:
			return
		case <-p.ctx.Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
		c, err = p.prepare()
	}
	go p.refreshVolumes()
	for {
		state, err := p.live(c)
		switch policy := p.object.Spec.RestartPolicy; {
		case p.ctx.Err() != nil || p.isEnding():
			return
		case err == nil && policy != corev1.RestartPolicyAlways:
			p.tell("Succeeded", "PodCompleted", "", state)
			p.rest()
			return
		case policy == corev1.RestartPolicyNever:
			p.tell("Failed", "Error", fmt.Sprint(err), state)
			p.rest()
			return
		}
		p.mu.Lock()
		p.restarts++
		p.mu.Unlock()
		p.tell("Running", "CrashLoopBackOff", fmt.Sprint(err), state)
		select {
		case <-p.ending:
			return
		case <-p.ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// rest waits until the pod, whose work is done, is deleted.
func (p *pod) rest() {
	select {
	case <-p.ending:
	case <-p.ctx.Done():
	}
}

func (p *pod) isEnding() bool {
	select {
	case <-p.ending:
		return true
	default:
		return false
	}
}

// gone removes what is left: also the object, if it is being deleted.
func (p *pod) gone() {
	if p.node.ctx.Err() == nil && p.isEnding() {
		_ = p.node.kube.Do(p.node.ctx, http.MethodDelete, "/api/v1/namespaces/"+p.object.Namespace+"/pods/"+p.object.Name,
			map[string]any{"gracePeriodSeconds": 0, "preconditions": map[string]any{"uid": p.object.UID}}, nil)
	}
	p.cancel()
}

// live runs the container once: it returns when its process has ended.
func (p *pod) live(c *container) (state any, err error) {
	process, ended, err := p.start(c)
	if err != nil {
		return nil, err
	}
	spec := &p.object.Spec.Containers[0]
	p.mu.Lock()
	p.process, p.since, p.ready = process, time.Now(), spec.ReadinessProbe == nil
	p.mu.Unlock()
	p.tellRunning()
	probing, stop := context.WithCancel(p.ctx)
	defer stop()
	go p.probe(probing, spec)
	defer func() {
		p.mu.Lock()
		p.process, p.ready = nil, false
		p.mu.Unlock()
	}()
	select {
	case err = <-ended:
		return terminated(err), err
	case <-p.ctx.Done():
	case <-p.ending:
		p.mu.Lock()
		grace := p.grace
		p.mu.Unlock()
		_ = process.Signal(syscall.SIGTERM)
		select {
		case err = <-ended:
			return terminated(err), err
		case <-time.After(grace):
		case <-p.ctx.Done():
		}
	}
	_ = process.Kill()
	<-ended
	return nil, context.Canceled
}

func terminated(err error) any {
	code := 0
	if err != nil {
		code = 1
	}
	return map[string]any{"terminated": map[string]any{"exitCode": code, "reason": fmt.Sprint(err)}}
}

// start starts the process; its network is ready before its program begins.
func (p *pod) start(c *container) (*os.Process, <-chan error, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = read.Close(); _ = write.Close() }()
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), podEnv+"=1")
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{read}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	started, ended := make(chan error), make(chan error, 1)
	go func() { // the death signal is bound to the thread
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, nil, err
	}
	err = ip("link add "+p.link+" type veth peer name eth0 netns "+fmt.Sprint(cmd.Process.Pid),
		"addr add 169.254.1.1/32 dev "+p.link, "link set "+p.link+" up",
		"route add "+p.ip+"/32 dev "+p.link+" src "+NodeIP)
	if err == nil {
		_, err = write.Write(text)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		<-ended
		return nil, nil, err
	}
	return cmd.Process, ended, nil
}

// prepare makes the container of the pod: its volumes, files, environment.
func (p *pod) prepare() (*container, error) {
	if len(p.object.Spec.Containers) != 1 || len(p.object.Spec.InitContainers) != 0 {
		return nil, fmt.Errorf("the rig runs pods of one container")
	}
	spec := &p.object.Spec.Containers[0]
	image, ok := p.node.images[spec.Image]
	if !ok {
		return nil, fmt.Errorf("image %q is not known to the rig", spec.Image)
	}
	c := &container{
		Hostname: p.object.Name, IP: p.ip, Root: filepath.Join(p.dir, "root"), Files: map[string]string{},
		Args: image.Entrypoint, Dir: "/", UID: image.UID, GID: image.UID,
	}
	if err := os.MkdirAll(c.Root, 0o755); err != nil {
		return nil, err
	}
	for to, from := range image.Files {
		c.Files[to] = from
	}
	if err := p.resolver(c); err != nil {
		return nil, err
	}
	if err := p.secure(c, spec); err != nil {
		return nil, err
	}
	environment, err := p.environment(spec)
	if err != nil {
		return nil, err
	}
	for name, value := range environment {
		c.Env = append(c.Env, name+"="+value)
	}
	slices.Sort(c.Env)
	if len(spec.Command) > 0 {
		c.Args = spec.Command
	}
	c.Args = slices.Clone(c.Args)
	for _, arg := range spec.Args {
		c.Args = append(c.Args, expand(arg, environment))
	}
	if spec.WorkingDir != "" {
		c.Dir = spec.WorkingDir
	}
	c.Mounts, err = p.mounts(spec)
	return c, err
}

// resolver is what a pod's /etc says of names.
func (p *pod) resolver(c *container) error {
	server := "10.96.0.10"
	if d := p.object.Spec.DNSConfig; d != nil && len(d.Nameservers) > 0 {
		server = d.Nameservers[0]
	}
	for name, text := range map[string]string{
		"resolv.conf": "nameserver " + server + "\nsearch " + p.object.Namespace + ".svc.cluster.local\noptions timeout:1\n",
		"hosts":       "127.0.0.1 localhost\n" + p.ip + " " + p.object.Name + "\n",
	} {
		file := filepath.Join(p.dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
		c.Files["/etc/"+name] = file
	}
	return nil
}

// secure is what the pod may.
func (p *pod) secure(c *container, spec *corev1.Container) error {
	mustNotBeRoot := false
	if s := p.object.Spec.SecurityContext; s != nil {
		set(&c.UID, s.RunAsUser)
		set(&c.GID, s.RunAsGroup)
		mustNotBeRoot = s.RunAsNonRoot != nil && *s.RunAsNonRoot
		for _, sysctl := range s.Sysctls {
			if sysctl.Name != "net.ipv4.ip_unprivileged_port_start" {
				return fmt.Errorf("sysctl %s is not known to the rig", sysctl.Name)
			}
			c.Unprivilegedports = sysctl.Value
		}
	}
	if s := spec.SecurityContext; s != nil {
		set(&c.UID, s.RunAsUser)
		set(&c.GID, s.RunAsGroup)
		mustNotBeRoot = mustNotBeRoot || s.RunAsNonRoot != nil && *s.RunAsNonRoot
		c.ReadOnly = s.ReadOnlyRootFilesystem != nil && *s.ReadOnlyRootFilesystem
		c.Confined = s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation
		if caps := s.Capabilities; caps != nil {
			c.Bounded = slices.Contains(caps.Drop, "ALL")
			for _, add := range caps.Add {
				c.Keep = append(c.Keep, string(add))
			}
		}
	}
	if mustNotBeRoot && c.UID == 0 {
		return fmt.Errorf("runAsNonRoot is set and the user is root")
	}
	return nil
}

func set(to *int, from *int64) {
	if from != nil {
		*to = int(*from)
	}
}

// tellRunning is tell for a process that runs.
func (p *pod) tellRunning() {
	p.mu.Lock()
	since := p.since
	p.mu.Unlock()
	p.tell("Running", "ContainersNotReady", "", map[string]any{"running": map[string]any{"startedAt": since.UTC().Format(time.RFC3339)}})
}

// tell writes the pod's status.
func (p *pod) tell(phase, reason, message string, state any) {
	p.mu.Lock()
	ready, restarts := p.ready, p.restarts
	p.mu.Unlock()
	now := time.Now().UTC().Format(time.RFC3339)
	condition := func(kind string, is bool) any {
		c := map[string]any{"type": kind, "status": "True", "lastTransitionTime": now}
		if !is {
			c["status"], c["reason"], c["message"] = "False", reason, message
		}
		return c
	}
	if state == nil {
		state = map[string]any{"waiting": map[string]any{"reason": reason, "message": message}}
	}
	spec := &p.object.Spec.Containers[0]
	status := map[string]any{
		"phase": phase, "hostIP": NodeIP, "podIP": p.ip, "podIPs": []any{map[string]any{"ip": p.ip}}, "startTime": now,
		"conditions": []any{condition("PodScheduled", true), condition("Initialized", true), condition("Ready", ready), condition("ContainersReady", ready)},
		"containerStatuses": []any{map[string]any{
			"name": spec.Name, "image": spec.Image, "imageID": spec.Image, "ready": ready, "restartCount": restarts, "started": ready, "state": state,
		}},
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = map[string]any{"metadata": map[string]any{"uid": p.object.UID}, "status": status}
}

// report writes the newest status, for as long as that takes: what runs does not
// wait for the API server.
func (p *pod) report() {
	path := "/api/v1/namespaces/" + p.object.Namespace + "/pods/" + p.object.Name + "/status"
	for p.ctx.Err() == nil {
		p.mu.Lock()
		status := p.status
		p.status = nil
		p.mu.Unlock()
		if status != nil {
			err := p.node.kube.Do(p.ctx, http.MethodPatch, path, status, nil)
			if err != nil && !IsCode(err, http.StatusNotFound) && !IsCode(err, http.StatusConflict) {
				p.mu.Lock()
				if p.status == nil {
					p.status = status
				}
				p.mu.Unlock()
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// probe asks the container whether it is ready, and alive.
func (p *pod) probe(ctx context.Context, spec *corev1.Container) {
	var wg sync.WaitGroup
	if probe := spec.ReadinessProbe; probe != nil {
		wg.Go(func() {
			p.ask(ctx, spec, probe, func(ok bool) {
				p.mu.Lock()
				changed := p.ready != ok && p.process != nil
				p.ready = ok
				p.mu.Unlock()
				if changed {
					p.tellRunning()
				}
			})
		})
	}
	if probe := spec.LivenessProbe; probe != nil {
		wg.Go(func() {
			p.ask(ctx, spec, probe, func(ok bool) {
				if !ok {
					p.kill()
				}
			})
		})
	}
	wg.Wait()
}

// ask tells each time that the answer has been the same often enough.
func (p *pod) ask(ctx context.Context, spec *corev1.Container, probe *corev1.Probe, tell func(bool)) {
	if probe.HTTPGet == nil {
		return
	}
	period, timeout := time.Duration(max(probe.PeriodSeconds, 1))*time.Second, time.Duration(max(probe.TimeoutSeconds, 1))*time.Second
	port := probe.HTTPGet.Port.IntValue()
	for _, named := range spec.Ports {
		if named.Name == probe.HTTPGet.Port.StrVal {
			port = int(named.ContainerPort)
		}
	}
	url := fmt.Sprintf("http://%s:%d%s", p.ip, port, probe.HTTPGet.Path)
	c := http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	good, bad := 0, 0
	wait := time.Duration(probe.InitialDelaySeconds) * time.Second
	for good+bad == 0 || ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = period
		resp, err := c.Get(url)
		ok := err == nil && resp.StatusCode < 400
		if err == nil {
			_ = resp.Body.Close()
		}
		if ok {
			good, bad = good+1, 0
		} else {
			good, bad = 0, bad+1
			if probe == spec.ReadinessProbe && bad < 20 && !p.isReady() {
				wait = min(period, 200*time.Millisecond) // it starts: look again soon
			}
		}
		if good >= int(max(probe.SuccessThreshold, 1)) {
			tell(true)
		}
		if bad >= int(max(probe.FailureThreshold, 1)) && ctx.Err() == nil {
			tell(false)
		}
	}
}

func (p *pod) isReady() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ready
}

// expand replaces $(NAME) in an argument.
func expand(text string, environment map[string]string) string {
	if !strings.Contains(text, "$(") {
		return text
	}
	var out bytes.Buffer
	for {
		before, rest, found := strings.Cut(text, "$(")
		name, after, closed := strings.Cut(rest, ")")
		value, known := environment[name]
		out.WriteString(before)
		switch {
		case !found:
			return out.String()
		case !closed || !known:
			out.WriteString("$(")
			text = rest
		default:
			out.WriteString(value)
			text = after
		}
	}
}
