/* SPDX-License-Identifier: Apache-2.0 */
/* The packed integer operations that MMX and SSE2 have in common, as lists. */
#ifndef VMM_SOFT_SOFT_FP_PACKED_H
#define VMM_SOFT_SOFT_FP_PACKED_H

#include <emmintrin.h>

/* X(opcode after 0F, name, expression of a and b): lane by lane, so that the MMX form is the low
 * half of the SSE2 form. */
#define PACKED_LANES(X)                                                                            \
	X(0x64, pcmpgtb, _mm_cmpgt_epi8(a, b))                                                     \
	X(0x65, pcmpgtw, _mm_cmpgt_epi16(a, b))                                                    \
	X(0x66, pcmpgtd, _mm_cmpgt_epi32(a, b))                                                    \
	X(0x74, pcmpeqb, _mm_cmpeq_epi8(a, b))                                                     \
	X(0x75, pcmpeqw, _mm_cmpeq_epi16(a, b))                                                    \
	X(0x76, pcmpeqd, _mm_cmpeq_epi32(a, b))                                                    \
	X(0xd4, paddq, _mm_add_epi64(a, b))                                                        \
	X(0xd5, pmullw, _mm_mullo_epi16(a, b))                                                     \
	X(0xd8, psubusb, _mm_subs_epu8(a, b))                                                      \
	X(0xd9, psubusw, _mm_subs_epu16(a, b))                                                     \
	X(0xda, pminub, _mm_min_epu8(a, b))                                                        \
	X(0xdb, pand, _mm_and_si128(a, b))                                                         \
	X(0xdc, paddusb, _mm_adds_epu8(a, b))                                                      \
	X(0xdd, paddusw, _mm_adds_epu16(a, b))                                                     \
	X(0xde, pmaxub, _mm_max_epu8(a, b))                                                        \
	X(0xdf, pandn, _mm_andnot_si128(a, b))                                                     \
	X(0xe0, pavgb, _mm_avg_epu8(a, b))                                                         \
	X(0xe3, pavgw, _mm_avg_epu16(a, b))                                                        \
	X(0xe4, pmulhuw, _mm_mulhi_epu16(a, b))                                                    \
	X(0xe5, pmulhw, _mm_mulhi_epi16(a, b))                                                     \
	X(0xe8, psubsb, _mm_subs_epi8(a, b))                                                       \
	X(0xe9, psubsw, _mm_subs_epi16(a, b))                                                      \
	X(0xea, pminsw, _mm_min_epi16(a, b))                                                       \
	X(0xeb, por, _mm_or_si128(a, b))                                                           \
	X(0xec, paddsb, _mm_adds_epi8(a, b))                                                       \
	X(0xed, paddsw, _mm_adds_epi16(a, b))                                                      \
	X(0xee, pmaxsw, _mm_max_epi16(a, b))                                                       \
	X(0xef, pxor, _mm_xor_si128(a, b))                                                         \
	X(0xf4, pmuludq, _mm_mul_epu32(a, b))                                                      \
	X(0xf5, pmaddwd, _mm_madd_epi16(a, b))                                                     \
	X(0xf6, psadbw, _mm_sad_epu8(a, b))                                                        \
	X(0xf8, psubb, _mm_sub_epi8(a, b))                                                         \
	X(0xf9, psubw, _mm_sub_epi16(a, b))                                                        \
	X(0xfa, psubd, _mm_sub_epi32(a, b))                                                        \
	X(0xfb, psubq, _mm_sub_epi64(a, b))                                                        \
	X(0xfc, paddb, _mm_add_epi8(a, b))                                                         \
	X(0xfd, paddw, _mm_add_epi16(a, b))                                                        \
	X(0xfe, paddd, _mm_add_epi32(a, b))

/* X(opcode, name, expression): shifts of all lanes by one count, the low quadword of b. */
#define PACKED_COUNTED(X)                                                                          \
	X(0xd1, psrlw, _mm_srl_epi16(a, b))                                                        \
	X(0xd2, psrld, _mm_srl_epi32(a, b))                                                        \
	X(0xd3, psrlq, _mm_srl_epi64(a, b))                                                        \
	X(0xe1, psraw, _mm_sra_epi16(a, b))                                                        \
	X(0xe2, psrad, _mm_sra_epi32(a, b))                                                        \
	X(0xf1, psllw, _mm_sll_epi16(a, b))                                                        \
	X(0xf2, pslld, _mm_sll_epi32(a, b))                                                        \
	X(0xf3, psllq, _mm_sll_epi64(a, b))

/* X(opcode, /digit, name, expression of a and the count b): shifts by an immediate. */
#define PACKED_SHIFTS(X)                                                                           \
	X(0x71, 2, psrlw_imm, _mm_srl_epi16(a, b))                                                 \
	X(0x71, 4, psraw_imm, _mm_sra_epi16(a, b))                                                 \
	X(0x71, 6, psllw_imm, _mm_sll_epi16(a, b))                                                 \
	X(0x72, 2, psrld_imm, _mm_srl_epi32(a, b))                                                 \
	X(0x72, 4, psrad_imm, _mm_sra_epi32(a, b))                                                 \
	X(0x72, 6, pslld_imm, _mm_sll_epi32(a, b))                                                 \
	X(0x73, 2, psrlq_imm, _mm_srl_epi64(a, b))                                                 \
	X(0x73, 6, psllq_imm, _mm_sll_epi64(a, b))

/* X(opcode, name, intrinsic): the MMX form interleaves the low or the high halves of 64 bits. */
#define PACKED_UNPACK_LOW(X)                                                                       \
	X(0x60, punpcklbw, _mm_unpacklo_epi8)                                                      \
	X(0x61, punpcklwd, _mm_unpacklo_epi16)                                                     \
	X(0x62, punpckldq, _mm_unpacklo_epi32)
/* X(opcode, name, SSE2's intrinsic, the low intrinsic): MMX takes the upper half of the low one. */
#define PACKED_UNPACK_HIGH(X)                                                                      \
	X(0x68, punpckhbw, _mm_unpackhi_epi8, _mm_unpacklo_epi8)                                   \
	X(0x69, punpckhwd, _mm_unpackhi_epi16, _mm_unpacklo_epi16)                                 \
	X(0x6a, punpckhdq, _mm_unpackhi_epi32, _mm_unpacklo_epi32)
/* X(opcode, name, intrinsic): the MMX form packs both 64-bit operands as one 128-bit operand. */
#define PACKED_PACK(X)                                                                             \
	X(0x63, packsswb, _mm_packs_epi16)                                                         \
	X(0x67, packuswb, _mm_packus_epi16)                                                        \
	X(0x6b, packssdw, _mm_packs_epi32)

#endif
