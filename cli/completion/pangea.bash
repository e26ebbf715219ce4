# SPDX-License-Identifier: Apache-2.0
# Completes pangea(1) in bash. Commands and options are what the program's own --help says; VMs are those that it lists.

_pangea_options() { "$1" ${2:+"$2"} --help 2>/dev/null | grep -oE -- '(^|[ ,(])--?[a-z][a-z-]*' | tr -d ' ,(' | grep -E '^-(-[a-z]|[a-z]$)' | sort -u; }
_pangea_commands() { "$1" --help 2>/dev/null | sed -n 's/^  pangea \([a-z][a-z]*\).*/\1/p' | sort -u; }

_pangea() {
	local program=${COMP_WORDS[0]} current=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]-} before=${COMP_WORDS[COMP_CWORD - 1]} words=""
	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		words="$(_pangea_commands "$program") --help --version"
	elif [[ $current == -* ]]; then
		words=$(_pangea_options "$program" "$command")
	else
		case $before in
		--kernel | --initrd | --disk | --fs | --image | --cloud-init | --ssh-key | --console-log | --stats-json | --token-file | --pki | --state-dir)
			compopt -o filenames 2>/dev/null
			mapfile -t COMPREPLY < <(compgen -f -- "$current")
			return
			;;
		--on-reboot | --on-crash) words="restart end" ;;
		--cpu) words="auto kvm soft" ;;
		--cpu-model) words="v1 v2 v3 max" ;;
		--cpu-vendor) words="intel amd" ;;
		--transport) words="auto shm rdma tcp" ;;
		--profile) words="auto spanning plain none" ;;
		--placement) words="spread pack" ;;
		*)
			case $command in
			run)
				compopt -o filenames 2>/dev/null
				mapfile -t COMPREPLY < <(compgen -f -X '!*.y*ml' -- "$current"; compgen -d -- "$current")
				return
				;;
			console | stop | reset | pages) words=$("$program" ps -q 2>/dev/null) ;;
			inspect | logs | rm) words=$("$program" ps -aq 2>/dev/null) ;;
			cluster) words="up down" ;;
			vm) words=example ;;
			esac
			;;
		esac
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -F _pangea pangea
