{{- define "logstream-operator.name" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "logstream-operator.selector" -}}
app.kubernetes.io/name: logstream-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "logstream-operator.labels" -}}
{{ include "logstream-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* Names that are unique in the cluster. */ -}}
{{- define "logstream-operator.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "logstream-operator.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "logstream-operator.image" -}}
{{- printf "%s:%s" .image.repository (default .chart.AppVersion .image.tag) }}
{{- end }}

{{- /* Whether the release may write the definition: one of another release, kept when that was uninstalled, stays as it is. */ -}}
{{- define "logstream-operator.ownsDefinition" -}}
{{- $found := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "logstreams.logstream.dev" }}
{{- $owner := dig "metadata" "annotations" "meta.helm.sh/release-name" "" $found }}
{{- $namespace := dig "metadata" "annotations" "meta.helm.sh/release-namespace" "" $found }}
{{- if or (not $found) (and (eq $owner .Release.Name) (eq $namespace .Release.Namespace)) }}yes{{ end }}
{{- end }}

{{- /* Another release that looks after the same LogStreams, by the rights that it has; two would undo each other's work. */ -}}
{{- define "logstream-operator.rival" -}}
{{- $api := "rbac.authorization.k8s.io/v1" }}
{{- $found := list }}
{{- range (lookup $api "ClusterRole" "" "").items }}
  {{- if has "logstreams/status" (include "logstream-operator.resources" . | fromJsonArray) }}{{ $found = append $found . }}{{ end }}
{{- end }}
{{- range default (list "") .Values.watchNamespaces }}
  {{- $found = concat $found (default list (lookup $api "Role" . "").items) }}
{{- end }}
{{- range $found }}
  {{- $theirs := eq (dig "metadata" "labels" "app.kubernetes.io/name" "" .) "logstream-operator" }}
  {{- $release := dig "metadata" "annotations" "meta.helm.sh/release-name" "" . }}
  {{- $namespace := dig "metadata" "annotations" "meta.helm.sh/release-namespace" "" . }}
  {{- if and $theirs (not (and (eq $release $.Release.Name) (eq $namespace $.Release.Namespace))) }}
    {{- $who := ternary (printf "the release %s in the namespace %s" $release $namespace) "what was installed without Helm" (ne $release "") }}
    {{- $where := ternary (printf "in the namespace %s" .metadata.namespace) "in all namespaces" (eq .kind "Role") }}
    {{- printf "%s (%s %s) looks after LogStreams %s;" $who .kind .metadata.name $where }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "logstream-operator.resources" -}}
{{- $resources := list }}
{{- range .rules }}{{ $resources = concat $resources (default list .resources) }}{{ end }}
{{- toJson $resources }}
{{- end }}

{{- /* Who reaches the servers, as the operator takes it: itself always, as it asks them how they are. */ -}}
{{- define "logstream-operator.serverNetworkPolicy" -}}
{{- with .Values.server.networkPolicy }}
{{- if .enabled }}
{{- $namespace := dict "matchLabels" (dict "kubernetes.io/metadata.name" $.Release.Namespace) }}
{{- $pods := dict "matchLabels" (include "logstream-operator.selector" $ | fromYaml) }}
{{- $operator := dict "namespaceSelector" $namespace "podSelector" $pods }}
{{- toJson (dict "from" .from "metricsFrom" (append (default (list (dict "namespaceSelector" dict)) .metricsFrom) $operator)) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The rules that the operator needs in the namespaces that it looks after. */ -}}
{{- define "logstream-operator.rules" -}}
- apiGroups: [logstream.dev]
  resources: [logstreams]
  verbs: [get, list, watch]
- apiGroups: [logstream.dev]
  resources: [logstreams/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [ingresses, networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors]
  verbs: [get, list, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [list, create]
{{- end }}
