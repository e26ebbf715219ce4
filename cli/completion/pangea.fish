# SPDX-License-Identifier: Apache-2.0
# Completes pangea(1) in fish. Commands and options are what the program's own --help says; VMs are those that it lists.

function __pangea_words
    commandline -opc
end

function __pangea_commands
    pangea --help 2>/dev/null | sed -n 's/^  pangea \([a-z][a-z]*\).*/\1/p' | sort -u
end

function __pangea_options
    set -l words (__pangea_words)
    pangea $words[2] --help 2>/dev/null | grep -oE -- '(^|[ ,(])--?[a-z][a-z-]*' | tr -d ' ,(' | grep -E '^-(-[a-z]|[a-z]$)' | sort -u
end

function __pangea_first
    test (count (__pangea_words)) -eq 1
end

function __pangea_is
    set -l words (__pangea_words)
    test (count $words) -gt 1; and contains -- $words[2] $argv
end

function __pangea_option
    string match -q -- '-*' (commandline -ct)
end

complete -c pangea -f
complete -c pangea -n __pangea_first -a '(__pangea_commands)'
complete -c pangea -n 'not __pangea_first; and __pangea_option' -a '(__pangea_options)'
complete -c pangea -n '__pangea_is console stop reset pages' -a '(pangea ps -q 2>/dev/null)'
complete -c pangea -n '__pangea_is inspect logs rm' -a '(pangea ps -aq 2>/dev/null)'
complete -c pangea -n '__pangea_is run' -F
complete -c pangea -n '__pangea_is cluster' -a 'up down'
complete -c pangea -n '__pangea_is vm' -a example
