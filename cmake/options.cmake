# SPDX-License-Identifier: Apache-2.0
# Warnings, sanitizers and version constants that every target of Pangea shares.
option(PANGEA_ASAN "AddressSanitizer and UndefinedBehaviorSanitizer" OFF)
option(PANGEA_TSAN "ThreadSanitizer" OFF)
option(PANGEA_FUZZ "fuzz targets, by clang with libFuzzer" OFF)

# -fno-strict-aliasing: guest memory is read through pointers of every width.
add_compile_options(-Wall -Wextra -Werror -Wimplicit-fallthrough -Wshadow -Wstrict-prototypes
  -Wmissing-prototypes -Wvla -fno-strict-aliasing -fno-omit-frame-pointer)
# What a bug in one of the programs shall not be turned into: an address that is known (PIE), a return
# that was overwritten (stack protector), an overflow of a known buffer (FORTIFY, which needs
# optimization and is no use beside sanitizers), a jump through a table (RELRO, bound at the start).
# vmm/cpu/soft leaves the stack protector out, the guests leave out all of it.
add_compile_options(-fPIE -fstack-protector-strong)
# Where a program was built is nobody's business, and the same source gives the same bytes: invariants name files of the tree.
add_compile_options(-fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=)
add_link_options(-pie -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
if(NOT (PANGEA_ASAN OR PANGEA_TSAN OR PANGEA_FUZZ))
  add_compile_options($<$<CONFIG:Release,RelWithDebInfo>:-U_FORTIFY_SOURCE>
    $<$<CONFIG:Release,RelWithDebInfo>:-D_FORTIFY_SOURCE=2>)
endif()
add_compile_definitions(_GNU_SOURCE PANGEA_VERSION="${PROJECT_VERSION}")

if(PANGEA_ASAN)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all)
  add_link_options(-fsanitize=address,undefined)
endif()
if(PANGEA_TSAN)
  add_compile_options(-fsanitize=thread)
  add_link_options(-fsanitize=thread)
endif()

# Clang warns of more (a GNU extension of KVM's own structs, say); the other builds' warnings count.
if(PANGEA_FUZZ)
  add_compile_options(-Wno-error -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all)
  add_link_options(-fsanitize=address,undefined)
endif()

# pangea_unit_test(NAME SOURCES... LIBS...): one Criterion program, one ctest entry "unit.NAME".
function(pangea_unit_test name)
  cmake_parse_arguments(T "" "TIMEOUT" "SOURCES;LIBS" ${ARGN})
  if(NOT CRITERION_FOUND)
    message(FATAL_ERROR "Criterion is needed for the tests: run deploy/setup --tests")
  endif()
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 120)
  endif()
  add_executable(unit_${name} ${T_SOURCES})
  # Criterion's own runner does not start under ThreadSanitizer.
  if(PANGEA_TSAN)
    target_sources(unit_${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/sanitize/plain_runner.c)
    target_link_libraries(unit_${name} PRIVATE ${T_LIBS})
  else()
    target_sources(unit_${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/unit/runner.c)
    target_link_libraries(unit_${name} PRIVATE ${T_LIBS} PkgConfig::CRITERION)
  endif()
  add_test(NAME unit.${name} COMMAND unit_${name} -j1)
  set_tests_properties(unit.${name} PROPERTIES TIMEOUT ${T_TIMEOUT} LABELS unit SKIP_RETURN_CODE 77)
endfunction()
