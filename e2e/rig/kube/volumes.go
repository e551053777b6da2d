package kube

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// mounts prepares the volumes the container mounts.
func (p *pod) mounts(spec *corev1.Container) ([]mount, error) {
	var out []mount
	for _, m := range spec.VolumeMounts {
		for _, v := range p.object.Spec.Volumes {
			if v.Name != m.Name {
				continue
			}
			from, err := p.volume(&v)
			if err != nil {
				return nil, fmt.Errorf("volume %s: %w", v.Name, err)
			}
			if m.SubPath != "" {
				from = filepath.Join(from, m.SubPath)
			}
			out = append(out, mount{From: from, To: m.MountPath, ReadOnly: m.ReadOnly || v.EmptyDir == nil && v.HostPath == nil})
		}
	}
	return out, nil
}

// volume gives the folder of a volume, made and filled.
func (p *pod) volume(v *corev1.Volume) (string, error) {
	if v.HostPath != nil {
		return v.HostPath.Path, nil
	}
	dir := filepath.Join(p.dir, "volumes", v.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if v.EmptyDir != nil {
		return dir, os.Chmod(dir, 0o1777)
	}
	content, err := p.content(v)
	if err != nil {
		return "", err
	}
	return dir, swap(dir, content)
}

// content is what the files of a volume hold.
func (p *pod) content(v *corev1.Volume) (map[string][]byte, error) {
	switch {
	case v.Secret != nil:
		return p.keys("secrets", v.Secret.SecretName, v.Secret.Optional, v.Secret.Items)
	case v.ConfigMap != nil:
		return p.keys("configmaps", v.ConfigMap.Name, v.ConfigMap.Optional, v.ConfigMap.Items)
	case v.Projected == nil:
		return nil, fmt.Errorf("its kind is not known to the rig")
	}
	out := map[string][]byte{}
	for _, source := range v.Projected.Sources {
		var part map[string][]byte
		var err error
		switch {
		case source.ServiceAccountToken != nil:
			part, err = p.token(source.ServiceAccountToken)
		case source.ConfigMap != nil:
			part, err = p.keys("configmaps", source.ConfigMap.Name, source.ConfigMap.Optional, source.ConfigMap.Items)
		case source.Secret != nil:
			part, err = p.keys("secrets", source.Secret.Name, source.Secret.Optional, source.Secret.Items)
		case source.DownwardAPI != nil:
			part = map[string][]byte{}
			for _, item := range source.DownwardAPI.Items {
				part[item.Path] = []byte(p.field(item.FieldRef.FieldPath))
			}
		}
		if err != nil {
			return nil, err
		}
		maps.Copy(out, part)
	}
	return out, nil
}

func (p *pod) token(source *corev1.ServiceAccountTokenProjection) (map[string][]byte, error) {
	var answer struct{ Status struct{ Token string } }
	request := map[string]any{"spec": map[string]any{
		"expirationSeconds": 7200,
		"boundObjectRef":    map[string]any{"apiVersion": "v1", "kind": "Pod", "name": p.object.Name, "uid": p.object.UID},
	}}
	err := p.node.kube.Do(p.ctx, http.MethodPost, "/api/v1/namespaces/"+p.object.Namespace+"/serviceaccounts/"+p.object.Spec.ServiceAccountName+"/token", request, &answer)
	return map[string][]byte{source.Path: []byte(answer.Status.Token)}, err
}

// keys reads a Secret or a ConfigMap.
func (p *pod) keys(resource, name string, optional *bool, items []corev1.KeyToPath) (map[string][]byte, error) {
	out := map[string][]byte{}
	path := "/api/v1/namespaces/" + p.object.Namespace + "/" + resource + "/" + name
	var err error
	if resource == "secrets" {
		var s corev1.Secret
		err = p.node.kube.Do(p.ctx, http.MethodGet, path, nil, &s)
		out = s.Data
	} else {
		var c corev1.ConfigMap
		err = p.node.kube.Do(p.ctx, http.MethodGet, path, nil, &c)
		for key, value := range c.Data {
			out[key] = []byte(value)
		}
		maps.Copy(out, c.BinaryData)
	}
	if optional != nil && *optional && IsCode(err, http.StatusNotFound) {
		return map[string][]byte{}, nil
	}
	if err != nil || len(items) == 0 {
		return out, err
	}
	chosen := map[string][]byte{}
	for _, item := range items {
		value, ok := out[item.Key]
		if !ok {
			return nil, fmt.Errorf("%s %s has no key %s", resource, name, item.Key)
		}
		chosen[item.Path] = value
	}
	return chosen, nil
}

// refreshVolumes follows Secrets and ConfigMaps, as a kubelet does, but within
// a second.
func (p *pod) refreshVolumes() {
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-time.After(time.Second):
		}
		for i := range p.object.Spec.Volumes {
			v := &p.object.Spec.Volumes[i]
			if v.Secret == nil && v.ConfigMap == nil {
				continue
			}
			if content, err := p.content(v); err == nil {
				_ = swap(filepath.Join(p.dir, "volumes", v.Name), content)
			}
		}
	}
}

// swap makes the files of a folder these, at once and only if they differ: they
// are links into "..data", which is one to a folder of the moment.
func swap(dir string, content map[string][]byte) error {
	data := filepath.Join(dir, "..data")
	before := map[string][]byte{}
	entries, _ := os.ReadDir(data)
	for _, e := range entries {
		before[e.Name()], _ = os.ReadFile(filepath.Join(data, e.Name()))
	}
	if _, err := os.Lstat(data); err == nil && reflect.DeepEqual(before, content) {
		return nil
	}
	moment := ".." + strconv.FormatInt(time.Now().UnixNano(), 10)
	if err := os.Mkdir(filepath.Join(dir, moment), 0o755); err != nil {
		return err
	}
	for name, value := range content {
		if err := os.WriteFile(filepath.Join(dir, moment, name), value, 0o644); err != nil {
			return err
		}
	}
	old, _ := os.Readlink(data)
	if err := os.Symlink(moment, data+".new"); err != nil {
		return err
	}
	if err := os.Rename(data+".new", data); err != nil {
		return err
	}
	for name := range content {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil && !os.IsExist(err) {
			return err
		}
	}
	for name := range before {
		if _, stays := content[name]; !stays {
			_ = os.Remove(filepath.Join(dir, name))
		}
	}
	if old != "" {
		return os.RemoveAll(filepath.Join(dir, old))
	}
	return nil
}

// environment is the container's, by name.
func (p *pod) environment(spec *corev1.Container) (map[string]string, error) {
	out := map[string]string{
		"PATH": "/", "HOME": "/", "HOSTNAME": p.object.Name, "KUBERNETES_SERVICE_HOST": ServiceIP, "KUBERNETES_SERVICE_PORT": "443",
	}
	for _, e := range spec.Env {
		value := expand(e.Value, out)
		if from := e.ValueFrom; from != nil {
			var keys map[string][]byte
			var err error
			var key string
			switch {
			case from.FieldRef != nil:
				value = p.field(from.FieldRef.FieldPath)
			case from.SecretKeyRef != nil:
				key = from.SecretKeyRef.Key
				keys, err = p.keys("secrets", from.SecretKeyRef.Name, from.SecretKeyRef.Optional, nil)
			case from.ConfigMapKeyRef != nil:
				key = from.ConfigMapKeyRef.Key
				keys, err = p.keys("configmaps", from.ConfigMapKeyRef.Name, from.ConfigMapKeyRef.Optional, nil)
			default:
				err = fmt.Errorf("its source is not known to the rig")
			}
			if err != nil {
				return nil, fmt.Errorf("environment %s: %w", e.Name, err)
			}
			if key != "" {
				value = string(keys[key])
			}
		}
		out[e.Name] = value
	}
	return out, nil
}

// field is what the downward API gives.
func (p *pod) field(path string) string {
	return map[string]string{
		"metadata.name": p.object.Name, "metadata.namespace": p.object.Namespace, "metadata.uid": string(p.object.UID),
		"status.podIP": p.ip, "status.hostIP": NodeIP, "spec.nodeName": nodeName, "spec.serviceAccountName": p.object.Spec.ServiceAccountName,
		"metadata.labels['topology.kubernetes.io/zone']": "zone-a",
	}[path]
}
